#include "libtsproto/otlp_json.h"

#include <math.h>
#include <string.h>

#include "libtsproto/number_priv.h"

/* ---- what the messages are: opentelemetry-proto's collector, metrics, common and resource ---- */

enum kind { UNKNOWN, TEXT, BOOL, VARINT, ZIGZAG, FIXED, DOUBLE, HEX, BASE64, MESSAGE };
enum message { REQUEST, RESOURCE_METRICS, RESOURCE, SCOPE_METRICS, SCOPE, METRIC, GAUGE, SUM, HISTOGRAM,
               EXPONENTIAL, SUMMARY, NUMBER_POINT, HISTOGRAM_POINT, EXPONENTIAL_POINT, BUCKETS,
               SUMMARY_POINT, QUANTILE, EXEMPLAR, KEY_VALUE, ANY, ARRAY, KEY_VALUES, MESSAGES };
enum { FIELDS_MAX = 13 };
struct field { const char *name; uint8_t number, kind, message; bool repeated; };

#define ONE(name, number, kind)      { name, number, kind, 0, false }
#define MANY(name, number, kind)     { name, number, kind, 0, true }
#define SUB(name, number, message)   { name, number, MESSAGE, message, false }
#define SUBS(name, number, message)  { name, number, MESSAGE, message, true }
#define TIMES ONE("startTimeUnixNano", 2, FIXED), ONE("timeUnixNano", 3, FIXED)

static const struct field schema[MESSAGES][FIELDS_MAX + 1] = {
    [REQUEST] = { SUBS("resourceMetrics", 1, RESOURCE_METRICS) },
    [RESOURCE_METRICS] = { SUB("resource", 1, RESOURCE), SUBS("scopeMetrics", 2, SCOPE_METRICS),
                           ONE("schemaUrl", 3, TEXT) },
    [RESOURCE] = { SUBS("attributes", 1, KEY_VALUE) },
    [SCOPE_METRICS] = { SUB("scope", 1, SCOPE), SUBS("metrics", 2, METRIC), ONE("schemaUrl", 3, TEXT) },
    [SCOPE] = { ONE("name", 1, TEXT), ONE("version", 2, TEXT), SUBS("attributes", 3, KEY_VALUE) },
    [METRIC] = { ONE("name", 1, TEXT), ONE("description", 2, TEXT), ONE("unit", 3, TEXT),
                 SUB("gauge", 5, GAUGE), SUB("sum", 7, SUM), SUB("histogram", 9, HISTOGRAM),
                 SUB("exponentialHistogram", 10, EXPONENTIAL), SUB("summary", 11, SUMMARY) },
    [GAUGE] = { SUBS("dataPoints", 1, NUMBER_POINT) },
    [SUM] = { SUBS("dataPoints", 1, NUMBER_POINT), ONE("aggregationTemporality", 2, VARINT),
              ONE("isMonotonic", 3, BOOL) },
    [HISTOGRAM] = { SUBS("dataPoints", 1, HISTOGRAM_POINT), ONE("aggregationTemporality", 2, VARINT) },
    [EXPONENTIAL] = { SUBS("dataPoints", 1, EXPONENTIAL_POINT), ONE("aggregationTemporality", 2, VARINT) },
    [SUMMARY] = { SUBS("dataPoints", 1, SUMMARY_POINT) },
    [NUMBER_POINT] = { SUBS("attributes", 7, KEY_VALUE), TIMES, ONE("asDouble", 4, DOUBLE),
                       ONE("asInt", 6, FIXED), SUBS("exemplars", 5, EXEMPLAR), ONE("flags", 8, VARINT) },
    [HISTOGRAM_POINT] = { SUBS("attributes", 9, KEY_VALUE), TIMES, ONE("count", 4, FIXED),
                          ONE("sum", 5, DOUBLE), MANY("bucketCounts", 6, FIXED),
                          MANY("explicitBounds", 7, DOUBLE), SUBS("exemplars", 8, EXEMPLAR),
                          ONE("flags", 10, VARINT), ONE("min", 11, DOUBLE), ONE("max", 12, DOUBLE) },
    [EXPONENTIAL_POINT] = { SUBS("attributes", 1, KEY_VALUE), TIMES, ONE("count", 4, FIXED),
                            ONE("sum", 5, DOUBLE), ONE("scale", 6, ZIGZAG), ONE("zeroCount", 7, FIXED),
                            SUB("positive", 8, BUCKETS), SUB("negative", 9, BUCKETS),
                            ONE("flags", 10, VARINT), SUBS("exemplars", 11, EXEMPLAR),
                            ONE("zeroThreshold", 14, DOUBLE) },
    [BUCKETS] = { ONE("offset", 1, ZIGZAG), MANY("bucketCounts", 2, VARINT) },
    [SUMMARY_POINT] = { SUBS("attributes", 7, KEY_VALUE), TIMES, ONE("count", 4, FIXED),
                        ONE("sum", 5, DOUBLE), SUBS("quantileValues", 6, QUANTILE),
                        ONE("flags", 8, VARINT) },
    [QUANTILE] = { ONE("quantile", 1, DOUBLE), ONE("value", 2, DOUBLE) },
    [EXEMPLAR] = { SUBS("filteredAttributes", 7, KEY_VALUE), ONE("timeUnixNano", 2, FIXED),
                   ONE("asDouble", 3, DOUBLE), ONE("asInt", 6, FIXED), ONE("spanId", 4, HEX),
                   ONE("traceId", 5, HEX) },
    [KEY_VALUE] = { ONE("key", 1, TEXT), SUB("value", 2, ANY) },
    [ANY] = { ONE("stringValue", 1, TEXT), ONE("boolValue", 2, BOOL), ONE("intValue", 3, VARINT),
              ONE("doubleValue", 4, DOUBLE), SUB("arrayValue", 5, ARRAY), SUB("kvlistValue", 6, KEY_VALUES),
              ONE("bytesValue", 7, BASE64) },
    [ARRAY] = { SUBS("values", 1, ANY) },
    [KEY_VALUES] = { SUBS("values", 1, KEY_VALUE) },
};

/* time_unix_nano is timeUnixNano. */
static bool is_name(struct kl_span sent, const char *name)
{
    const char *at = sent.at, *end = at + sent.size;

    for (; at < end && *name != '\0'; at++, name++) {
        if (*at == *name)
            continue;
        if (*at != '_' || at + 1 == end || at[1] < 'a' || at[1] > 'z' || at[1] - 'a' + 'A' != *name)
            return false;
        at++;
    }
    return at == end && *name == '\0';
}

static const struct field *field_of(enum message m, struct kl_span name)
{
    for (const struct field *f = schema[m]; f->name != NULL; f++)
        if (is_name(name, f->name))
            return f;
    return NULL;
}

/* ---- reading ---- */

struct reader {
    const char *begin, *at, *end;
    struct kl_buf *out;
    struct kl_err *err;
    unsigned depth;
};

static bool wrong(struct reader *r, const char *what)
{
    kl_fail(r->err, KL_EINVAL, "JSON, byte %td: %s", r->at - r->begin, what);
    return false;
}

static char peek(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
    return r->at < r->end ? *r->at : '\0';
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != c || r->at == r->end)
        return false;
    r->at++;
    return true;
}

static bool word(struct reader *r, const char *text)
{
    size_t n = strlen(text);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, text, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* A string as it stands between its quotes. *escaped: it holds a backslash. */
static bool raw_string(struct reader *r, struct kl_span *raw, bool *escaped)
{
    const char *begin;

    *escaped = false;
    if (!take(r, '"'))
        return wrong(r, "a string should begin here");
    for (begin = r->at; r->at < r->end && *r->at != '"'; r->at++) {
        if ((uint8_t)*r->at < 0x20)
            return wrong(r, "a control character in a string");
        if (*r->at == '\\') {
            *escaped = true;
            if (++r->at == r->end)
                break;
        }
    }
    if (r->at == r->end)
        return wrong(r, "a string that does not end");
    *raw = kl_span(begin, (size_t)(r->at - begin));
    r->at++;
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool hex4(const char **at, const char *end, uint32_t *v)
{
    *v = 0;
    if (end - *at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*(*at)++);
        if (digit < 0)
            return false;
        *v = *v << 4 | (uint32_t)digit;
    }
    return true;
}

static void add_utf8(struct kl_buf *out, uint32_t c)
{
    if (c < 0x80) {
        kl_buf_add8(out, (uint8_t)c);
    } else if (c < 0x800) {
        kl_buf_add8(out, (uint8_t)(0xc0 | c >> 6));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        kl_buf_add8(out, (uint8_t)(0xe0 | c >> 12));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 6 & 63)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 63)));
    } else {
        kl_buf_add8(out, (uint8_t)(0xf0 | c >> 18));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 12 & 63)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c >> 6 & 63)));
        kl_buf_add8(out, (uint8_t)(0x80 | (c & 63)));
    }
}

static bool add_escape(struct reader *r, const char **at, const char *end)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    char        c = *(*at)++;                          /* raw_string saw that there is one */
    const char *found = c == '\0' ? NULL : strchr(names, c);
    uint32_t    v, low;

    if (found != NULL) {
        kl_buf_add8(r->out, (uint8_t)means[found - names]);
        return true;
    }
    if (c != 'u' || !hex4(at, end, &v))
        return wrong(r, "an escape that is none");
    if (v >= 0xd800 && v < 0xdc00) {                   /* half of a pair */
        if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
            return wrong(r, "half a character");
        *at += 2;
        if (!hex4(at, end, &low) || low < 0xdc00 || low > 0xdfff)
            return wrong(r, "half a character");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    } else if (v >= 0xdc00 && v < 0xe000) {
        return wrong(r, "half a character");
    }
    add_utf8(r->out, v);
    return true;
}

static bool add_text(struct reader *r, struct kl_span raw)
{
    const char *at = raw.at, *end = at + raw.size, *plain;

    while (at < end) {
        for (plain = at; at < end && *at != '\\'; at++) { }
        kl_buf_add(r->out, plain, (size_t)(at - plain));
        if (at < end) {
            at++;
            if (!add_escape(r, &at, end))
                return false;
        }
    }
    return true;
}

static bool add_hex(struct reader *r, struct kl_span raw)
{
    const char *at = raw.at;

    if (raw.size % 2 != 0)
        return wrong(r, "an id that is no hex");
    for (size_t i = 0; i < raw.size; i += 2) {
        int high = hex_digit(at[i]), low = hex_digit(at[i + 1]);
        if (high < 0 || low < 0)
            return wrong(r, "an id that is no hex");
        kl_buf_add8(r->out, (uint8_t)(high << 4 | low));
    }
    return true;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26
         : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static bool add_base64(struct reader *r, struct kl_span raw)
{
    const char *at = raw.at;
    uint32_t    v = 0;
    unsigned    bits = 0;
    size_t      n = raw.size;

    while (n > 0 && at[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        int digit;
        if (at[i] == '\\' && i + 1 < n)                /* "\/": JSON's only escape among the digits */
            i++;
        digit = base64_digit(at[i]);
        if (digit < 0)
            return wrong(r, "bytes that are no base64");
        v = v << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            kl_buf_add8(r->out, (uint8_t)(v >> bits));
        }
    }
    return true;
}

/* A number's text, bare or in quotes. */
enum { NUMBER_MAX = TSP_NUMBER_MAX };
static bool number_text(struct reader *r, char text[NUMBER_MAX + 1])
{
    struct kl_span raw;
    const char    *begin;
    bool           escaped;

    if (peek(r) == '"') {
        if (!raw_string(r, &raw, &escaped))
            return false;
    } else {
        for (begin = r->at; r->at < r->end && strchr("+-0123456789.eE", *r->at) != NULL && *r->at != '\0'; )
            r->at++;
        raw = kl_span(begin, (size_t)(r->at - begin));
    }
    if (raw.size == 0 || raw.size > NUMBER_MAX || memchr(raw.at, '\0', raw.size) != NULL)
        return wrong(r, "a number should stand here");
    memcpy(text, raw.at, raw.size);
    text[raw.size] = '\0';
    return true;
}

static bool read_double(struct reader *r, double *v)
{
    char text[NUMBER_MAX + 1];

    return number_text(r, text) &&
           (tsp_number_double(kl_span_str(text), v) || wrong(r, "a number should stand here"));
}

/* The bits of a 64-bit integer, signed or not: -1 and 18446744073709551615 are the same. */
static bool read_integer(struct reader *r, uint64_t *bits)
{
    char        text[NUMBER_MAX + 1];
    const char *at = text;
    bool        minus;
    uint64_t    v = 0;
    double      d;

    if (!number_text(r, text))
        return false;
    minus = *at == '-';
    at += minus;
    if (*at == '\0')
        return wrong(r, "a whole number should stand here");
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v))
            return wrong(r, "a number beyond 64 bits");
    if (*at != '\0') {                                 /* 1e3, 5.0 */
        if (!tsp_number_double(kl_span_str(text), &d) || d != floor(d) || fabs(d) > 0x1p53)
            return wrong(r, "a whole number should stand here");
        *bits = (uint64_t)(int64_t)d;
        return true;
    }
    if (minus && v > UINT64_C(1) << 63)
        return wrong(r, "a number beyond 64 bits");
    *bits = minus ? 0 - v : v;
    return true;
}

/* ---- skipping what nobody knows ---- */

static bool enter(struct reader *r)
{
    if (++r->depth <= TSP_OTLP_JSON_DEPTH_MAX)
        return true;
    kl_fail(r->err, KL_ELIMIT, "JSON, byte %td: nested deeper than %d", r->at - r->begin,
            TSP_OTLP_JSON_DEPTH_MAX);
    return false;
}

static bool skip(struct reader *r)
{
    struct kl_span raw;
    bool           escaped, map;
    double         number;
    char           c = peek(r);

    if (c == '"')
        return raw_string(r, &raw, &escaped);
    if (c != '{' && c != '[')
        return word(r, "true") || word(r, "false") || word(r, "null") || read_double(r, &number);
    map = c == '{';
    r->at++;
    if (!enter(r))
        return false;
    if (!take(r, map ? '}' : ']')) {
        do {
            if (map && !raw_string(r, &raw, &escaped))
                return false;
            if (map && !take(r, ':'))
                return wrong(r, "a colon is missing");
            if (!skip(r))
                return false;
        } while (take(r, ','));
        if (!take(r, map ? '}' : ']'))
            return wrong(r, "a comma or an end is missing");
    }
    r->depth--;
    return true;
}

/* ---- writing ---- */

enum { LENGTH_BYTES = 5 };

static size_t begin_bytes(struct reader *r, uint8_t number)
{
    static const uint8_t room[LENGTH_BYTES];

    kl_buf_addv(r->out, (uint64_t)number << 3 | 2);
    kl_buf_add(r->out, room, sizeof room);
    return r->out->size;
}

/* Fills in the length of what has been added since. */
static void end_bytes(struct reader *r, size_t from)
{
    size_t   size = r->out->size - from;
    uint8_t *at = (uint8_t *)r->out->at + from - LENGTH_BYTES;

    if (!kl_buf_ok(r->out))
        return;
    for (int i = 0; i < LENGTH_BYTES; i++, size >>= 7)
        at[i] = (uint8_t)((size & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

static bool add_message(struct reader *r, enum message m);

static bool add_number(struct reader *r, enum kind kind)
{
    uint64_t bits;
    double   v;

    if (kind == DOUBLE) {
        if (!read_double(r, &v))
            return false;
        kl_buf_addf64(r->out, v);
        return true;
    }
    if (!read_integer(r, &bits))
        return false;
    if (kind == FIXED)
        kl_buf_add64(r->out, bits);
    else if (kind == ZIGZAG)
        kl_buf_addz(r->out, (int64_t)bits);
    else
        kl_buf_addv(r->out, bits);
    return true;
}

static bool add_value(struct reader *r, const struct field *f)
{
    struct kl_span raw;
    bool           escaped, ok;
    size_t         from;

    switch (f->kind) {
    case BOOL:
        kl_buf_addv(r->out, (uint64_t)f->number << 3);
        peek(r);
        ok = word(r, "true");
        kl_buf_add8(r->out, ok);
        return ok || word(r, "false") || wrong(r, "true or false should stand here");
    case VARINT: case ZIGZAG:
        kl_buf_addv(r->out, (uint64_t)f->number << 3);
        return add_number(r, f->kind);
    case FIXED: case DOUBLE:
        kl_buf_addv(r->out, (uint64_t)f->number << 3 | 1);
        return add_number(r, f->kind);
    case MESSAGE:
        from = begin_bytes(r, f->number);
        ok = add_message(r, f->message);
        end_bytes(r, from);
        return ok;
    default:
        if (!raw_string(r, &raw, &escaped))
            return false;
        if (f->kind == TEXT && !escaped) {
            kl_buf_addv(r->out, (uint64_t)f->number << 3 | 2);
            kl_buf_addspan(r->out, raw);
            return true;
        }
        from = begin_bytes(r, f->number);
        ok = f->kind == TEXT ? add_text(r, raw) : f->kind == HEX ? add_hex(r, raw) : add_base64(r, raw);
        end_bytes(r, from);
        return ok;
    }
}

static bool add_list(struct reader *r, const struct field *f)
{
    bool   packed = f->kind != MESSAGE;
    size_t from = 0;

    if (!take(r, '['))
        return wrong(r, "a list should begin here");
    if (take(r, ']'))
        return true;
    if (packed)
        from = begin_bytes(r, f->number);
    do
        if (!(packed ? add_number(r, f->kind) : add_value(r, f)))
            return false;
    while (take(r, ',') && kl_buf_ok(r->out));
    if (packed)
        end_bytes(r, from);
    return take(r, ']') || !kl_buf_ok(r->out) || wrong(r, "a comma or a bracket is missing");
}

static bool add_field(struct reader *r, enum message m)
{
    const struct field *f;
    struct kl_span      name;
    bool                escaped;

    if (!raw_string(r, &name, &escaped))
        return false;
    if (!take(r, ':'))
        return wrong(r, "a colon is missing");
    f = field_of(m, name);
    if (peek(r) == 'n' && word(r, "null"))
        return true;
    return f == NULL ? skip(r) : f->repeated ? add_list(r, f) : add_value(r, f);
}

static bool add_message(struct reader *r, enum message m)
{
    if (!take(r, '{'))
        return wrong(r, "an object should begin here");
    if (!enter(r))
        return false;
    if (!take(r, '}')) {
        do
            if (!add_field(r, m))
                return false;
        while (take(r, ',') && kl_buf_ok(r->out));
        if (kl_buf_ok(r->out) && !take(r, '}'))
            return wrong(r, "a comma or a brace is missing");
    }
    r->depth--;
    return true;
}

enum kl_code tsp_otlp_json(struct kl_span json, struct kl_buf *out, struct kl_err *err)
{
    struct reader r = { .begin = json.at, .at = json.at, .out = out, .err = err };

    r.end = r.begin + json.size;
    err->code = KL_OK;
    if (!add_message(&r, REQUEST)) {
        if (err->code == KL_OK)
            kl_fail(err, KL_EINVAL, "JSON, byte %td: not understood", r.at - r.begin);
        return err->code;
    }
    if (!kl_buf_ok(out))
        return kl_fail(err, KL_ELIMIT, "the message is larger than %zu bytes", out->cap);
    if (peek(&r) != '\0' || r.at != r.end)
        return kl_fail(err, KL_EINVAL, "JSON, byte %td: more than one value", r.at - r.begin);
    return KL_OK;
}
