# cython: language_level=3
"""The one compiled module that holds the C library: others call it through what c_api.pxd declares.

Every function only passes its arguments on, under the name that it has in binconv.h.
"""

from libc.stdint cimport int8_t, int64_t, uint32_t, uint64_t


cdef extern from "binconv.h" nogil:
    const char *_bc_status_string "bc_status_string"(bc_status status)
    bc_status _bc_isa "bc_isa"(const char **name)
    const char *_bc_isa_name "bc_isa_name"(size_t index)
    const char *_bc_cpu_feature "bc_cpu_feature"(size_t index, int *present)
    const char *_bc_threading "bc_threading"()
    bc_status _bc_layer_create "bc_layer_create"(const bc_layer_config *config, bc_layer **layer)
    void _bc_layer_destroy "bc_layer_destroy"(bc_layer *layer)
    bc_status _bc_fold_batch_normalization "bc_fold_batch_normalization"(
        size_t channels, const double *scale, const double *bias, const double *mean,
        const double *variance, const double *gamma, const double *beta, double epsilon,
        float *folded_scale, float *folded_bias
    )
    bc_status _bc_padding_resolve "bc_padding_resolve"(
        unsigned method, bc_axis axis, const bc_window *window, size_t *size, int64_t *offset
    )
    bc_status _bc_padding_explicit "bc_padding_explicit"(
        const bc_window *window, int64_t before, int64_t after, size_t *size, int64_t *offset
    )
    bc_status _bc_plan_create "bc_plan_create"(
        const bc_layer *layer, const bc_plan_config *config, bc_plan **plan
    )
    void _bc_plan_destroy "bc_plan_destroy"(bc_plan *plan)
    size_t _bc_plan_threads "bc_plan_threads"(const bc_plan *plan, size_t limit)
    size_t _bc_plan_workspace_bytes "bc_plan_workspace_bytes"(const bc_plan *plan, size_t threads)
    bc_status _bc_plan_run "bc_plan_run"(
        const bc_plan *plan, const void *source, void *destination, void *workspace,
        size_t workspace_bytes, const bc_parallel *parallel
    )
    bc_status _bc_pack "bc_pack"(
        bc_format format, const void *source, size_t pixels, size_t channels, const float *bias,
        const float *scale, uint64_t *words
    )
    bc_status _bc_unpack "bc_unpack"(
        const uint64_t *words, size_t pixels, size_t channels, int8_t *values
    )


cdef const char *bc_status_string(bc_status status) noexcept nogil:
    return _bc_status_string(status)


cdef bc_status bc_isa(const char **name) noexcept nogil:
    return _bc_isa(name)


cdef const char *bc_isa_name(size_t index) noexcept nogil:
    return _bc_isa_name(index)


cdef const char *bc_cpu_feature(size_t index, int *present) noexcept nogil:
    return _bc_cpu_feature(index, present)


cdef const char *bc_threading() noexcept nogil:
    return _bc_threading()


cdef bc_status bc_layer_create(const bc_layer_config *config, bc_layer **layer) noexcept nogil:
    return _bc_layer_create(config, layer)


cdef void bc_layer_destroy(bc_layer *layer) noexcept nogil:
    _bc_layer_destroy(layer)


cdef bc_status bc_fold_batch_normalization(
    size_t channels, const double *scale, const double *bias, const double *mean,
    const double *variance, const double *gamma, const double *beta, double epsilon,
    float *folded_scale, float *folded_bias
) noexcept nogil:
    return _bc_fold_batch_normalization(
        channels, scale, bias, mean, variance, gamma, beta, epsilon, folded_scale, folded_bias
    )


cdef bc_status bc_padding_resolve(
    unsigned method, bc_axis axis, const bc_window *window, size_t *size, int64_t *offset
) noexcept nogil:
    return _bc_padding_resolve(method, axis, window, size, offset)


cdef bc_status bc_padding_explicit(
    const bc_window *window, int64_t before, int64_t after, size_t *size, int64_t *offset
) noexcept nogil:
    return _bc_padding_explicit(window, before, after, size, offset)


cdef bc_status bc_plan_create(
    const bc_layer *layer, const bc_plan_config *config, bc_plan **plan
) noexcept nogil:
    return _bc_plan_create(layer, config, plan)


cdef void bc_plan_destroy(bc_plan *plan) noexcept nogil:
    _bc_plan_destroy(plan)


cdef size_t bc_plan_threads(const bc_plan *plan, size_t limit) noexcept nogil:
    return _bc_plan_threads(plan, limit)


cdef size_t bc_plan_workspace_bytes(const bc_plan *plan, size_t threads) noexcept nogil:
    return _bc_plan_workspace_bytes(plan, threads)


cdef bc_status bc_plan_run(
    const bc_plan *plan, const void *source, void *destination, void *workspace,
    size_t workspace_bytes, const bc_parallel *parallel
) noexcept nogil:
    return _bc_plan_run(plan, source, destination, workspace, workspace_bytes, parallel)


cdef bc_status bc_pack(
    bc_format format, const void *source, size_t pixels, size_t channels, const float *bias,
    const float *scale, uint64_t *words
) noexcept nogil:
    return _bc_pack(format, source, pixels, channels, bias, scale, words)


cdef bc_status bc_unpack(
    const uint64_t *words, size_t pixels, size_t channels, int8_t *values
) noexcept nogil:
    return _bc_unpack(words, pixels, channels, values)
