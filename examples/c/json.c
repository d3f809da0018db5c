#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_NUMBER = 64 };

typedef struct parser {
    const char *at, *end;
    json_value *values;
    size_t count, capacity;
} parser;

/* ---- Text to values ------------------------------------------------------------------------------- */

static bool parse_value(parser *p, int depth);

static bool starts_with(const parser *p, char c) { return p->at < p->end && *p->at == c; }

static bool take(parser *p, char c) {
    if (!starts_with(p, c)) return false;
    p->at++;
    return true;
}

static void skip_space(parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

static bool take_digits(parser *p) {
    const char *begin = p->at;
    while (p->at < p->end && is_digit(*p->at)) p->at++;
    return p->at > begin;
}

/* The values move when they grow, so they are known by their index while parsing. */
static bool add_value(parser *p, json_type type, size_t *index) {
    if (p->count == p->capacity) {
        const size_t capacity = p->capacity ? 2 * p->capacity : 64;
        if (capacity > SIZE_MAX / sizeof *p->values) return false;
        json_value *values = realloc(p->values, capacity * sizeof *values);
        if (!values) return false;
        p->values = values;
        p->capacity = capacity;
    }
    *index = p->count++;
    p->values[*index] = (json_value){.type = type, .text = p->at, .values = 1};
    return true;
}

static bool parse_literal(parser *p, json_type type, const char *word) {
    size_t index;
    const size_t length = strlen(word);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0) return false;
    if (!add_value(p, type, &index)) return false;
    p->at += length;
    return true;
}

static bool parse_number(parser *p) {
    size_t index;
    if (!add_value(p, JSON_NUMBER, &index)) return false;
    const char *begin = p->at;
    take(p, '-');
    if (!take(p, '0') && !take_digits(p)) return false;
    if (take(p, '.') && !take_digits(p)) return false;
    if (take(p, 'e') || take(p, 'E')) {
        if (!take(p, '+')) take(p, '-');
        if (!take_digits(p)) return false;
    }
    p->values[index].length = (size_t)(p->at - begin);
    return true;
}

static bool skip_escape(parser *p) {
    if (p->at == p->end) return false;
    const char c = *p->at++;
    if (c != 'u') return c != 0 && strchr("\"\\/bfnrt", c) != NULL;
    for (int i = 0; i < 4; i++, p->at++)
        if (p->at == p->end || !is_hex(*p->at)) return false;
    return true;
}

static bool parse_string(parser *p) {
    size_t index;
    if (!take(p, '"') || !add_value(p, JSON_STRING, &index)) return false;
    const char *begin = p->at;
    while (p->at < p->end) {
        const char c = *p->at++;
        if (c == '"') {
            p->values[index].length = (size_t)(p->at - 1 - begin);
            return true;
        }
        if ((unsigned char)c < ' ' || (c == '\\' && !skip_escape(p))) return false;
    }
    return false;
}

static bool parse_items(parser *p, json_type type, int depth) {
    const char close = type == JSON_OBJECT ? '}' : ']';
    size_t index;
    if (depth == MAX_DEPTH || !add_value(p, type, &index)) return false;
    p->at++;
    skip_space(p);
    if (!take(p, close)) {
        do {
            skip_space(p);
            if (type == JSON_OBJECT) {
                if (!parse_string(p)) return false;
                skip_space(p);
                if (!take(p, ':')) return false;
            }
            if (!parse_value(p, depth + 1)) return false;
            p->values[index].count++;
        } while (take(p, ','));
        if (!take(p, close)) return false;
    }
    p->values[index].values = p->count - index;
    return true;
}

static bool parse_any(parser *p, int depth) {
    if (p->at == p->end) return false;
    switch (*p->at) {
        case '{':
            return parse_items(p, JSON_OBJECT, depth);
        case '[':
            return parse_items(p, JSON_ARRAY, depth);
        case '"':
            return parse_string(p);
        case 'n':
            return parse_literal(p, JSON_NULL, "null");
        case 't':
            return parse_literal(p, JSON_TRUE, "true");
        case 'f':
            return parse_literal(p, JSON_FALSE, "false");
        default:
            return parse_number(p);
    }
}

static bool parse_value(parser *p, int depth) {
    skip_space(p);
    if (!parse_any(p, depth)) return false;
    skip_space(p);
    return true;
}

json_value *json_parse(const char *text, size_t length) {
    parser p = {.at = text, .end = text + length};
    if (parse_value(&p, 0) && p.at == p.end) return p.values;
    free(p.values);
    return NULL;
}

/* ---- Values --------------------------------------------------------------------------------------- */

const json_value *json_first(const json_value *value) { return value + 1; }

const json_value *json_next(const json_value *value) { return value + value->values; }

const json_value *json_member(const json_value *object, const char *name) {
    if (!object || object->type != JSON_OBJECT || object->count == 0) return NULL;
    const json_value *found = NULL, *key = json_first(object);
    for (size_t i = 0; i < object->count; i++, key = json_next(json_next(key))) {
        if (!json_is(key, name)) continue;
        if (found) return NULL;
        found = json_next(key);
    }
    return found;
}

bool json_is(const json_value *string, const char *text) {
    return string && string->type == JSON_STRING && string->length == strlen(text) &&
           memcmp(string->text, text, string->length) == 0;
}

bool json_integer(const json_value *number, int64_t *result) {
    if (!number || number->type != JSON_NUMBER) return false;
    const bool negative = number->text[0] == '-';
    uint64_t magnitude = 0;
    for (size_t i = negative; i < number->length; i++) {
        if (!is_digit(number->text[i])) return false;
        const unsigned digit = (unsigned)(number->text[i] - '0');
        if (magnitude > ((uint64_t)INT64_MAX - digit) / 10) return false;
        magnitude = 10 * magnitude + digit;
    }
    *result = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

bool json_size(const json_value *number, size_t *result) {
    int64_t value;
    if (!json_integer(number, &value) || value < 0 || (uint64_t)value > SIZE_MAX) return false;
    *result = (size_t)value;
    return true;
}

bool json_double(const json_value *number, double *result) {
    char text[MAX_NUMBER];
    if (!number || number->type != JSON_NUMBER || number->length >= sizeof text) return false;
    memcpy(text, number->text, number->length);
    text[number->length] = 0;
    char *end;
    *result = strtod(text, &end); /* a locale with another decimal point stops it early */
    return end == text + number->length;
}

static bool unescape(const char **from, char *to) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char c = *(*from)++;
    if (c != 'u') {
        *to = values[strchr(names, c) - names];
        return true;
    }
    char digits[5] = {0};
    memcpy(digits, *from, 4);
    *from += 4;
    const unsigned long code = strtoul(digits, NULL, 16);
    *to = (char)code;
    return code < 128;
}

char *json_unescape(const json_value *string, size_t *length) {
    if (!string || string->type != JSON_STRING) return NULL;
    char *text = malloc(string->length + 1);
    if (!text) return NULL;
    char *to = text;
    for (const char *from = string->text; from < string->text + string->length;) {
        const char c = *from++;
        if (c != '\\') {
            *to++ = c;
        } else if (!unescape(&from, to++)) {
            free(text);
            return NULL;
        }
    }
    *to = 0;
    *length = (size_t)(to - text);
    return text;
}
