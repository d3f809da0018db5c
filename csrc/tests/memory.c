#if defined(__unix__) || defined(__APPLE__)
#define HAVE_PAGES 1
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { SLOTS = 24, SLOT_BYTES = 1 << 22, GUARD_BYTES = 512 };

typedef struct slot {
    unsigned char *start; /* SLOT_BYTES, between two fences */
    unsigned char *data;  /* the array */
    size_t bytes;
    int is_output;
} slot;

static slot slots[SLOTS];
static size_t used;
static memory_fence side;

static void die(const char *message) {
    fprintf(stderr, "tests: %s\n", message);
    exit(2);
}

static unsigned char *make_slot(void) {
#ifdef HAVE_PAGES
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *block =
        mmap(NULL, SLOT_BYTES + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (block == MAP_FAILED) die("no memory");
    if (mprotect(block, page, PROT_NONE) || mprotect(block + page + SLOT_BYTES, page, PROT_NONE))
        die("cannot protect a page");
    return block + page;
#else
    unsigned char *block = malloc(SLOT_BYTES);
    if (!block) die("no memory");
    return block;
#endif
}

void memory_reset(memory_fence fence) {
    used = 0;
    side = fence;
}

static slot *take(size_t bytes, int is_output) {
    if (used == SLOTS) die("a case takes too many arrays");
    if (bytes > SLOT_BYTES - GUARD_BYTES) die("a case takes too large an array");
    slot *taken = &slots[used++];
    if (!taken->start) taken->start = make_slot();
    taken->data = side == FENCE_AFTER ? taken->start + SLOT_BYTES - bytes : taken->start;
    taken->bytes = bytes;
    taken->is_output = is_output;
    return taken;
}

void *memory_input(size_t bytes) { return take(bytes, 0)->data; }

void *memory_padded_input(size_t count, size_t element_bytes) {
    const size_t slack = BC_SLACK * element_bytes;
    slot *taken = take(count * element_bytes + slack, 0);
    /* As int32, -1 and nearly INT32_MIN; as float32, NaN and a subnormal. */
    memset(taken->data, side == FENCE_AFTER ? 0xff : 0x80, taken->bytes);
    return taken->data;
}

/* On the side that has no fence. */
static unsigned char *guard_of(const slot *output) {
    return side == FENCE_AFTER ? output->data - GUARD_BYTES : output->data + output->bytes;
}

void *memory_output(size_t bytes) {
    slot *taken = take(bytes, 1);
    memset(taken->data, MEMORY_FILL, bytes);
    memset(guard_of(taken), MEMORY_FILL, GUARD_BYTES);
    return taken->data;
}

ptrdiff_t memory_broken_guard(void) {
    ptrdiff_t output = 0;
    for (size_t i = 0; i < used; i++) {
        if (!slots[i].is_output) continue;
        const unsigned char *guard = guard_of(&slots[i]);
        for (size_t k = 0; k < GUARD_BYTES; k++)
            if (guard[k] != MEMORY_FILL) return output;
        output++;
    }
    return -1;
}

strided memory_strided_input(size_t pixels, size_t row, ptrdiff_t stride, size_t element_bytes) {
    strided input = {0};
    const size_t step = (size_t)(stride < 0 ? -stride : stride);
    input.elements = pixels ? (pixels - 1) * step + row : 0;
    input.block = memory_input(input.elements * element_bytes);
    const size_t first = stride < 0 && pixels ? (pixels - 1) * step : 0;
    input.first = (unsigned char *)input.block + first * element_bytes;
    return input;
}
