/* The registry of instruction sets and the choice among them. */
#include "dispatch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "probe.h"

typedef struct bc_isa_entry {
    const char *name;
    uint32_t needs;
    const bc_kernels *own;
    int must_prove; /* chosen only where it is measured to be faster than the best before it */
} bc_isa_entry;

/* Best last. To add one, add its line here, its table to kernels.h, and to cpu.h a feature that it needs. */
#define NEEDS_AVX2 BC_CPU_avx2 | BC_CPU_f16c | BC_CPU_fma | BC_CPU_popcnt
#define NEEDS_AVX512VPOPCNT                                                             \
    NEEDS_AVX2 | BC_CPU_avx512f | BC_CPU_avx512bw | BC_CPU_avx512dq | BC_CPU_avx512vl | \
        BC_CPU_avx512vpopcntdq | BC_CPU_avx512bitalg
static const bc_isa_entry isas[] = {
    {"scalar", 0, &bc_kernels_scalar, 0},
#if defined(__x86_64__) || defined(_M_X64)
    {"avx2", NEEDS_AVX2, &bc_kernels_avx2, 0},
    {"avx512vpopcnt", NEEDS_AVX512VPOPCNT, &bc_kernels_avx512vpopcnt, 0},
    {"avx512carrysave", NEEDS_AVX512VPOPCNT | BC_CPU_avx512vnni, &bc_kernels_avx512carrysave, 1},
    {"avx512chain", NEEDS_AVX512VPOPCNT | BC_CPU_avx512vnni, &bc_kernels_avx512chain, 1},
#elif (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)
    {"neon", BC_CPU_neon, &bc_kernels_neon, 0},
    {"asimddp", BC_CPU_neon | BC_CPU_asimddp, &bc_kernels_asimddp, 0},
#endif
};
enum { ISA_COUNT = sizeof isas / sizeof isas[0] };

/* Filled once by build_registry. */
static struct {
    bc_kernels tables[ISA_COUNT];
    const bc_isa_entry *entries[ISA_COUNT];
    size_t count;
    size_t chosen;
    bc_status status;
} registry;

static void overlay(bc_kernels *table, const bc_kernels *own) {
#define BC_KERNEL(name, arguments) \
    if (own->name) table->name = own->name;
#define BC_CONSTANT(name) BC_KERNEL(name, )
#include "kernels.def"
#undef BC_KERNEL
#undef BC_CONSTANT
}

/* The last one, of those that must prove themselves only such as do, one after the other. */
static size_t best_isa(void) {
    size_t best = 0;
    for (size_t i = 1; i < registry.count; i++)
        if (!registry.entries[i]->must_prove || bc_probe_sums(&registry.tables[i], &registry.tables[best]))
            best = i;
    return best;
}

static void build_registry(void) {
    const uint32_t features = bc_cpu_features();
    bc_kernels table;
    memset(&table, 0, sizeof table);
    for (size_t i = 0; i < ISA_COUNT; i++) {
        if ((features & isas[i].needs) != isas[i].needs) continue;
        overlay(&table, isas[i].own);
        registry.tables[registry.count] = table;
        registry.entries[registry.count] = &isas[i];
        registry.count++;
    }

    const char *forced = getenv("BINCONV_ISA");
    if (!forced || !*forced) {
        registry.chosen = best_isa();
        return;
    }
    for (size_t i = 0; i < registry.count; i++) {
        if (strcmp(forced, registry.entries[i]->name) == 0) {
            registry.chosen = i;
            return;
        }
    }
    registry.status = BC_UNKNOWN_ISA;
}

/* 0: untouched, 1: being built by some thread, 2: ready. A spin suffices: building takes microseconds, with probes some 600. */
static atomic_int registry_state;

static void ensure_registry(void) {
    if (atomic_load_explicit(&registry_state, memory_order_acquire) == 2) return;
    int untouched = 0;
    if (atomic_compare_exchange_strong(&registry_state, &untouched, 1)) {
        build_registry();
        atomic_store_explicit(&registry_state, 2, memory_order_release);
        return;
    }
    while (atomic_load_explicit(&registry_state, memory_order_acquire) != 2) {
    }
}

bc_status bc_kernels_chosen(const bc_kernels **table) {
    ensure_registry();
    if (registry.status == BC_OK) *table = &registry.tables[registry.chosen];
    return registry.status;
}

const bc_kernels *bc_kernels_of(size_t index) {
    ensure_registry();
    return index < registry.count ? &registry.tables[index] : NULL;
}

const bc_kernels *bc_kernels_own(size_t index) {
    ensure_registry();
    return index < registry.count ? registry.entries[index]->own : NULL;
}

bc_status bc_isa(const char **name) {
    ensure_registry();
    if (registry.status == BC_OK) *name = registry.entries[registry.chosen]->name;
    return registry.status;
}

const char *bc_isa_name(size_t index) {
    ensure_registry();
    return index < registry.count ? registry.entries[index]->name : NULL;
}

const char *bc_cpu_feature(size_t index, int *present) {
    static const struct {
        const char *name;
        uint32_t feature;
    } features[] = {
#define FEATURE(name, bit) {#name, BC_CPU_##name},
        BC_CPU_FEATURES(FEATURE)
#undef FEATURE
    };
    if (index >= sizeof features / sizeof features[0]) return NULL;
    *present = (bc_cpu_features() & features[index].feature) != 0;
    return features[index].name;
}
