/* Reads a safetensors file, https://github.com/huggingface/safetensors: a length of 8 bytes, a JSON header, and the
 * tensors without gaps. All is checked before anything is used. Functions that can fail return NULL, or a
 * sentence that says what is wrong. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stddef.h>

#include "json.h"

typedef enum safetensors_type {
    SAFETENSORS_U8,
    SAFETENSORS_U32,
    SAFETENSORS_F32,
    SAFETENSORS_F64
} safetensors_type;

enum { SAFETENSORS_MAX_DIMENSIONS = 4 };

typedef struct safetensors_tensor {
    const json_value *name;
    safetensors_type type;
    size_t dimensions, shape[SAFETENSORS_MAX_DIMENSIONS];
    size_t elements, begin, bytes; /* begin: from data */
} safetensors_tensor;

typedef struct safetensors {
    char *text;         /* the header */
    json_value *header; /* its values */
    void *data;
    size_t data_bytes;
    safetensors_tensor *tensors; /* in the order of their data */
    size_t count;
} safetensors;

const char *safetensors_open(const char *path, safetensors *file);
void safetensors_close(safetensors *file);

/* A text of __metadata__; NULL where there is none. */
const json_value *safetensors_metadata(const safetensors *file, const char *key);

/* The only tensor of the name that prefix and name make together; NULL where there is none. */
const safetensors_tensor *safetensors_find(const safetensors *file, const char *prefix, const char *name);

const void *safetensors_data(const safetensors *file, const safetensors_tensor *tensor);

#endif
