#include "safetensors.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 };

/* ---- Bytes ---------------------------------------------------------------------------------------- */

static bool is_little_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}

/* `bytes` of the stream; NULL where there are fewer or memory runs out. */
static void *read_block(FILE *stream, size_t bytes) {
    void *block = malloc(bytes ? bytes : 1);
    if (block && fread(block, 1, bytes, stream) != bytes) {
        free(block);
        return NULL;
    }
    return block;
}

static bool file_size(FILE *stream, size_t *bytes) {
    if (fseek(stream, 0, SEEK_END)) return false;
    const long end = ftell(stream);
    if (end < 0 || fseek(stream, 0, SEEK_SET)) return false;
    *bytes = (size_t)end;
    return true;
}

static const char *read_blocks(FILE *stream, safetensors *file, size_t *header_bytes) {
    size_t bytes;
    unsigned char length[LENGTH_BYTES];
    if (!file_size(stream, &bytes)) return "the file cannot be read";
    if (fread(length, 1, sizeof length, stream) != sizeof length) return "the file is too short";
    uint64_t header = 0;
    for (int i = LENGTH_BYTES; i-- > 0;) header = header << 8 | length[i];
    if (header > MAX_HEADER || header > bytes - LENGTH_BYTES) return "the header is longer than it may be";
    *header_bytes = (size_t)header;
    file->data_bytes = bytes - LENGTH_BYTES - *header_bytes;
    file->text = read_block(stream, *header_bytes);
    file->data = file->text ? read_block(stream, file->data_bytes) : NULL;
    return file->data ? NULL : "the file cannot be read, or memory runs out";
}

/* ---- Tensors -------------------------------------------------------------------------------------- */

static bool read_type(const json_value *value, safetensors_type *type, size_t *element_bytes) {
    static const struct {
        const char *name;
        safetensors_type type;
        size_t bytes;
    } types[] = {{"U8", SAFETENSORS_U8, 1},
                 {"U32", SAFETENSORS_U32, 4},
                 {"F32", SAFETENSORS_F32, 4},
                 {"F64", SAFETENSORS_F64, 8}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!json_is(value, types[i].name)) continue;
        *type = types[i].type;
        *element_bytes = types[i].bytes;
        return true;
    }
    return false;
}

static bool read_sizes(const json_value *array, size_t most, size_t *sizes, size_t *count) {
    if (!array || array->type != JSON_ARRAY || array->count > most) return false;
    const json_value *item = json_first(array);
    for (*count = 0; *count < array->count; ++*count, item = json_next(item))
        if (!json_size(item, &sizes[*count])) return false;
    return true;
}

static bool multiply(size_t *product, size_t factor) {
    if (factor && *product > SIZE_MAX / factor) return false;
    *product *= factor;
    return true;
}

static const char *read_tensor(const json_value *entry, size_t data_bytes, safetensors_tensor *tensor) {
    size_t element_bytes, offsets[2], two;
    if (!read_type(json_member(entry, "dtype"), &tensor->type, &element_bytes))
        return "a tensor is of a type that binconv's files do not have";
    if (!read_sizes(json_member(entry, "shape"), SAFETENSORS_MAX_DIMENSIONS, tensor->shape,
                    &tensor->dimensions))
        return "a tensor's shape is malformed";
    if (!read_sizes(json_member(entry, "data_offsets"), 2, offsets, &two) || two != 2 ||
        offsets[0] > offsets[1] || offsets[1] > data_bytes)
        return "a tensor lies outside the file";
    tensor->elements = 1;
    for (size_t i = 0; i < tensor->dimensions; i++)
        if (!multiply(&tensor->elements, tensor->shape[i])) return "a tensor is too large";
    size_t bytes = tensor->elements;
    if (!multiply(&bytes, element_bytes) || bytes != offsets[1] - offsets[0])
        return "a tensor's shape is not that of its data";
    if (offsets[0] % element_bytes) return "a tensor is not aligned";
    tensor->begin = offsets[0];
    tensor->bytes = bytes;
    return NULL;
}

static int by_place(const void *a, const void *b) {
    const safetensors_tensor *first = a, *second = b;
    if (first->begin != second->begin) return first->begin < second->begin ? -1 : 1;
    return (first->bytes > second->bytes) - (first->bytes < second->bytes);
}

static const char *read_tensors(safetensors *file) {
    const json_value *header = file->header;
    if (header->type != JSON_OBJECT) return "the header is not an object";
    file->tensors = calloc(header->count + 1, sizeof *file->tensors);
    if (!file->tensors) return "memory runs out";
    const json_value *key = json_first(header);
    for (size_t i = 0; i < header->count; i++, key = json_next(json_next(key))) {
        if (json_is(key, "__metadata__")) continue;
        safetensors_tensor *tensor = &file->tensors[file->count++];
        tensor->name = key;
        const char *error = read_tensor(json_next(key), file->data_bytes, tensor);
        if (error) return error;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    size_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        if (file->tensors[i].begin != end) return "tensors overlap or leave gaps";
        end += file->tensors[i].bytes;
    }
    return end == file->data_bytes ? NULL : "there are bytes past the last tensor";
}

/* ---- Files ---------------------------------------------------------------------------------------- */

const char *safetensors_open(const char *path, safetensors *file) {
    *file = (safetensors){0};
    if (!is_little_endian()) return "tensors are little-endian, and this machine is not";
    FILE *stream = fopen(path, "rb");
    if (!stream) return "the file cannot be opened";
    size_t header_bytes = 0;
    const char *error = read_blocks(stream, file, &header_bytes);
    fclose(stream);
    if (!error) {
        file->header = json_parse(file->text, header_bytes);
        error = file->header ? read_tensors(file) : "the header is not JSON";
    }
    if (error) safetensors_close(file);
    return error;
}

void safetensors_close(safetensors *file) {
    free(file->text);
    free(file->header);
    free(file->data);
    free(file->tensors);
    *file = (safetensors){0};
}

const json_value *safetensors_metadata(const safetensors *file, const char *key) {
    return json_member(json_member(file->header, "__metadata__"), key);
}

static bool is_named(const json_value *key, const char *prefix, const char *name) {
    const size_t length = strlen(prefix);
    return key->length == length + strlen(name) && memcmp(key->text, prefix, length) == 0 &&
           memcmp(key->text + length, name, key->length - length) == 0;
}

const safetensors_tensor *safetensors_find(const safetensors *file, const char *prefix, const char *name) {
    const safetensors_tensor *found = NULL;
    for (size_t i = 0; i < file->count; i++) {
        if (!is_named(file->tensors[i].name, prefix, name)) continue;
        if (found) return NULL;
        found = &file->tensors[i];
    }
    return found;
}

const void *safetensors_data(const safetensors *file, const safetensors_tensor *tensor) {
    return (const char *)file->data + tensor->begin;
}
