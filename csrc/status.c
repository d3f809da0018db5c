#include "binconv.h"

const char *bc_status_string(bc_status status) {
    switch (status) {
        case BC_OK:
            return "success";
        case BC_INVALID_ARGUMENT:
            return "an argument is outside its documented range";
        case BC_SIZE_OVERFLOW:
            return "a product of sizes is too large";
        case BC_OUT_OF_MEMORY:
            return "out of memory";
        case BC_WORKSPACE_TOO_SMALL:
            return "the workspace is smaller than bc_plan_workspace_bytes";
        case BC_UNKNOWN_ISA:
            return "BINCONV_ISA names no instruction set that this build has and this machine runs";
    }
    return "unknown status";
}
