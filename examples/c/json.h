/* A strict reader of JSON (RFC 8259) for files that nobody vouches for. A document is parsed once into an array
 * of values in the order of the text; the values point into the text, which must outlive them. Bytes above 127
 * are taken as they are. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
} json_type;

typedef struct json_value {
    json_type type;
    const char *text; /* numbers, and strings without their quotes but with their escapes */
    size_t length;
    size_t count;  /* elements of an array, members of an object */
    size_t values; /* of this one with all that it contains: the next one in the same array is so far on */
} json_value;

/* All values of the text, the whole document first; NULL where it is malformed, nested too deeply or memory runs
 * out. The caller frees them. */
json_value *json_parse(const char *text, size_t length);

/* The first element of an array, or the first key of an object, whose member's value is json_next of it. Only
 * where count is not 0. */
const json_value *json_first(const json_value *value);
const json_value *json_next(const json_value *value);

/* These take NULL for a value that is absent, and answer NULL or false for what is not as they say. */

/* The member of an object that has exactly one of this name, written without escapes. */
const json_value *json_member(const json_value *object, const char *name);

bool json_is(const json_value *string, const char *text);
bool json_integer(const json_value *number, int64_t *result);
bool json_size(const json_value *number, size_t *result);
bool json_double(const json_value *number, double *result);

/* The string without its escapes, with a 0 past its end, which the caller frees. \u escapes above 127 do not
 * occur in what this reader is for and are refused. */
char *json_unescape(const json_value *string, size_t *length);

#endif
