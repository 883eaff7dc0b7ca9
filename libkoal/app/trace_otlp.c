/*
 * Spans as OTLP has them (opentelemetry-proto 1.3, trace/v1): written by hand, since each message is a
 * handful of fields. A message's size comes before it, so that it is made aside and then copied.
 */
#include "libkoal/app/trace_priv.h"

#include <string.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { SAMPLED = 1, STATUS_ERROR = 2 };

static void tag(struct kl_buf *b, unsigned field, unsigned type) { kl_buf_addv(b, field << 3 | type); }

static void put_bytes(struct kl_buf *b, unsigned field, const void *at, size_t size)
{
    tag(b, field, BYTES);
    kl_buf_addspan(b, kl_span(at, size));
}

/* How many bytes the character at `at` has; 0: it is none. RFC 3629. */
static size_t character(const uint8_t *at, size_t left)
{
    size_t size = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] <= 0xdf ? 2 : (at[0] & 0xf0) == 0xe0 ? 3
                : at[0] >= 0xf0 && at[0] <= 0xf4 ? 4 : 0;

    if (size == 0 || size > left)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return size;
}

/* A proto3 string must be UTF-8, or the whole message is refused. */
static void put_text(struct kl_buf *b, unsigned field, struct kl_span text)
{
    const uint8_t *at = text.at;

    tag(b, field, BYTES);
    kl_buf_addv(b, text.size);
    for (size_t i = 0, n; i < text.size; i += n) {
        n = character(at + i, text.size - i);
        if (n == 0)
            kl_buf_add8(b, '?');                       /* as many bytes as before */
        else
            kl_buf_add(b, at + i, n);
        n += n == 0;
    }
}

static void put_message(struct kl_buf *b, unsigned field, struct kl_buf *message)
{
    put_bytes(b, field, message->at, message->size);
    kl_buf_reset(message);
}

struct scratch { struct kl_buf value, attr, span; };

static void put_attr(struct kl_buf *b, struct scratch *s, unsigned field, const char *name,
                     const struct kl_trace_attr *number, struct kl_span text)
{
    if (number != NULL) {
        tag(&s->value, 3, VARINT);
        kl_buf_addv(&s->value, (uint64_t)number->number);
    } else {
        put_text(&s->value, 1, text);
    }
    put_text(&s->attr, 1, kl_span_str(name));
    put_message(&s->attr, 2, &s->value);
    put_message(b, field, &s->attr);
}

static void put_span(struct kl_buf *b, struct scratch *s, const struct kl_trace_span *x, int64_t epoch_ns)
{
    static const uint8_t none[8];
    struct kl_buf       *m = &s->span;

    put_bytes(m, 1, x->is.trace, sizeof x->is.trace);
    put_bytes(m, 2, x->is.span, sizeof x->is.span);
    if (memcmp(x->parent, none, sizeof none) != 0)
        put_bytes(m, 4, x->parent, sizeof x->parent);
    put_text(m, 5, kl_span_str(x->name));
    tag(m, 6, VARINT);
    kl_buf_addv(m, x->kind);
    tag(m, 7, FIXED64);
    kl_buf_add64(m, (uint64_t)(x->begin_ns + epoch_ns));
    tag(m, 8, FIXED64);
    kl_buf_add64(m, (uint64_t)(x->end_ns + epoch_ns));
    for (unsigned i = 0; i < x->attr_count; i++)
        put_attr(m, s, 9, x->attrs[i].name, x->attrs[i].is_number ? &x->attrs[i] : NULL,
                 kl_span(x->texts + x->attrs[i].at, x->attrs[i].size));
    if (x->link.on) {
        put_bytes(&s->attr, 1, x->link.trace, sizeof x->link.trace);
        put_bytes(&s->attr, 2, x->link.span, sizeof x->link.span);
        put_message(m, 13, &s->attr);
    }
    if (x->failed) {
        tag(&s->attr, 3, VARINT);
        kl_buf_addv(&s->attr, STATUS_ERROR);
        put_message(m, 15, &s->attr);
    }
    tag(m, 16, FIXED32);
    kl_buf_add32(m, SAMPLED);
    put_message(b, 2, m);
}

void kl_app_trace_encode(const struct kl_app_trace_from *from, const struct kl_trace_span *spans,
                         size_t count, int64_t epoch_ns, struct kl_buf *out)
{
    const struct { const char *name, *text; } resource[] = {
        { "service.name", from->service },     { "service.namespace", "koalemos" },
        { "service.version", from->version },  { "service.instance.id", from->instance },
        { "host.name", from->host },
    };
    struct scratch s = { 0 };
    struct kl_buf  inner = { 0 }, scope = { 0 }, all = { 0 };

    for (size_t i = 0; i < sizeof resource / sizeof resource[0]; i++)
        if (resource[i].text != NULL && resource[i].text[0] != '\0')
            put_attr(&inner, &s, 1, resource[i].name, NULL, kl_span_str(resource[i].text));
    put_message(&all, 1, &inner);
    put_text(&inner, 1, kl_span_str("koalemos"));
    put_message(&scope, 1, &inner);
    for (size_t i = 0; i < count; i++)
        put_span(&scope, &s, &spans[i], epoch_ns);
    put_message(&all, 2, &scope);
    put_message(out, 1, &all);
    kl_buf_deinit(&s.value);
    kl_buf_deinit(&s.attr);
    kl_buf_deinit(&s.span);
    kl_buf_deinit(&inner);
    kl_buf_deinit(&scope);
    kl_buf_deinit(&all);
}
