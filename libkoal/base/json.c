#include "libkoal/base/json.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "libkoal/base/labels.h"

/* Length of the UTF-8 sequence at `at`, or 0 where there is none. */
static size_t utf8_length(const uint8_t *at, size_t left)
{
    for (size_t n = 1; n <= 4 && n <= left; n++)
        if (kl_utf8_ok(kl_span(at, n)))
            return n;
    return 0;
}

void kl_json_str(struct kl_buf *b, struct kl_span s)
{
    const uint8_t *at = s.at, *end = at + s.size, *plain;

    kl_buf_add8(b, '"');
    while (at < end) {
        for (plain = at; at < end && *at >= 0x20 && *at < 0x7f && *at != '"' && *at != '\\'; at++) { }
        kl_buf_add(b, plain, (size_t)(at - plain));
        if (at == end)
            break;
        if (*at == '"' || *at == '\\') {
            kl_buf_add8(b, '\\');
            kl_buf_add8(b, *at++);
        } else if (*at == '\n') {
            kl_buf_adds(b, "\\n");
            at++;
        } else if (*at == '\r') {
            kl_buf_adds(b, "\\r");
            at++;
        } else if (*at == '\t') {
            kl_buf_adds(b, "\\t");
            at++;
        } else if (*at < 0x20 || *at == 0x7f) {
            kl_buf_addf(b, "\\u%04x", *at++);
        } else {
            size_t n = utf8_length(at, (size_t)(end - at));
            kl_buf_add(b, n == 0 ? (const void *)"\xef\xbf\xbd" : at, n == 0 ? 3 : n);
            at += n == 0 ? 1 : n;
        }
    }
    kl_buf_add8(b, '"');
}

void kl_json_cstr(struct kl_buf *b, const char *s) { kl_json_str(b, kl_span_str(s)); }

static size_t put(char *text, const char *what)
{
    size_t n = strlen(what);

    memcpy(text, what, n);
    return n;
}

/* `digits` significant digits, the first of which stands for 10^exponent, without an exponent. */
static size_t spread(const char *digits, size_t n, int exponent, char *text)
{
    size_t at = 0;

    if (exponent < 0) {
        at += put(text, "0.");
        for (int i = -1; i > exponent; i--)
            text[at++] = '0';
        memcpy(text + at, digits, n);
        return at + n;
    }
    for (size_t i = 0; i <= (size_t)exponent || i < n; i++) {
        if (i == (size_t)exponent + 1)
            text[at++] = '.';
        text[at++] = i < n ? digits[i] : '0';
    }
    return at;
}

size_t kl_f64_text(double v, char text[KL_F64_TEXT_MAX])
{
    char   e[40], digits[20], *mark;
    size_t n = 0, at = 0;

    if (isnan(v))
        return put(text, "NaN");
    if (isinf(v))
        return put(text, v > 0 ? "+Inf" : "-Inf");
    if (fabs(v) < 1e15 && v == (double)(int64_t)v && !(v == 0 && signbit(v)))
        return (size_t)snprintf(text, KL_F64_TEXT_MAX, "%" PRId64, (int64_t)v);
    if (v == 0)
        return put(text, "-0");
    /* The shortest that reads back. Every normal double whose shortest form has up to 15 digits
     * shows it at 15; subnormals have fewer bits, and are tried from one digit up. */
    for (int precision = fabs(v) < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        snprintf(e, sizeof e, "%.*e", precision, fabs(v));
        if (precision == 16 || strtod(e, NULL) == fabs(v))
            break;
    }
    mark = strchr(e, 'e');
    for (const char *c = e; c < mark; c++)
        if (*c != '.')
            digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (v < 0)
        text[at++] = '-';
    return at + spread(digits, n, atoi(mark + 1), text + at);
}

void kl_json_ms(struct kl_buf *b, int64_t ms)
{
    uint64_t u = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    unsigned rest = (unsigned)(u % 1000);

    kl_buf_addf(b, "%s%" PRIu64, ms < 0 ? "-" : "", u / 1000);
    if (rest != 0) {
        char fraction[8];
        int  n = snprintf(fraction, sizeof fraction, "%03u", rest);
        while (fraction[n - 1] == '0')
            n--;
        kl_buf_addf(b, ".%.*s", n, fraction);
    }
}
