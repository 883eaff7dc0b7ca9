#include "libkoal/base/json.h"

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
    const uint8_t *at = s.size > 0 ? s.at : (const void *)"", *end = at + s.size, *plain;

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

void kl_json_ms(struct kl_buf *b, int64_t ms)
{
    uint64_t u = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    unsigned rest = (unsigned)(u % 1000);
    char     text[32], *at = text + sizeof text;

    if (rest != 0) {
        unsigned digits = 3;

        for (; rest % 10 == 0; digits--)
            rest /= 10;
        for (; digits > 0; digits--, rest /= 10)
            *--at = (char)('0' + rest % 10);
        *--at = '.';
    }
    u /= 1000;
    do
        *--at = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    if (ms < 0)
        *--at = '-';
    kl_buf_add(b, at, (size_t)(text + sizeof text - at));
}
