#include "libkoal/base/trace.h"

#include "libkoal/base/hex.h"

#include <string.h>

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte of two digits, lower case only, as the standard has it; -1: it is none. */
static int byte(const char *at)
{
    int hi = digit(at[0]), lo = hi < 0 ? -1 : digit(at[1]);

    return lo < 0 ? -1 : hi << 4 | lo;
}

/* False also where all are zero, which is no id. */
static bool id_of(const char *at, uint8_t *out, size_t size)
{
    uint8_t any = 0;

    for (size_t i = 0; i < size; i++) {
        int v = byte(at + 2 * i);

        if (v < 0)
            return false;
        out[i] = (uint8_t)v;
        any |= out[i];
    }
    return any != 0;
}

bool kl_trace_parse(struct kl_span text, struct kl_trace *t)
{
    const char     *at = text.at;
    struct kl_trace got = { .on = false };
    int             version, flags;

    t->on = false;
    if (text.size < KL_TRACE_TEXT || at[2] != '-' || at[35] != '-' || at[52] != '-')
        return false;
    version = byte(at);
    flags = byte(at + 53);
    if (version < 0 || version == 0xff || flags < 0 ||
        (text.size > KL_TRACE_TEXT && (version == 0 || at[KL_TRACE_TEXT] != '-')))
        return false;
    if (!id_of(at + 3, got.trace, sizeof got.trace) || !id_of(at + 36, got.span, sizeof got.span))
        return false;
    got.on = (flags & 1) != 0;
    *t = got;
    return true;
}

static char *put_hex(char *to, const uint8_t *bytes, size_t size)
{
    kl_hex(bytes, size, to);
    return to + 2 * size;
}

void kl_trace_text(const struct kl_trace *t, char out[KL_TRACE_TEXT + 1])
{
    char *at = out;

    memcpy(at, "00-", 3);
    at = put_hex(at + 3, t->trace, sizeof t->trace);
    *at++ = '-';
    at = put_hex(at, t->span, sizeof t->span);
    memcpy(at, t->on ? "-01" : "-00", 4);
}

void kl_trace_id_text(const struct kl_trace *t, char out[33])
{
    *(t->on ? put_hex(out, t->trace, sizeof t->trace) : out) = '\0';
}

/* ---- where spans stand ---- */

static void draw_id(struct kl_tracer *t, uint8_t *id, size_t size)
{
    t->draw(t, id, size);
    id[0] |= 1;                                        /* never all zeros */
}

void kl_trace_enter(struct kl_tracer *t, const char *traceparent, bool may, struct kl_trace *is,
                    uint8_t parent[8])
{
    uint64_t chance;

    memset(parent, 0, 8);
    *is = (struct kl_trace){ .on = false };
    if (t == NULL)
        return;
    if (traceparent != NULL && kl_trace_parse(kl_span_str(traceparent), is)) {
        if (!is->on)
            return;                                    /* its sender has decided for all */
        memcpy(parent, is->span, 8);
    } else {
        if (!may || t->one_in == 0)
            return;
        t->draw(t, &chance, sizeof chance);
        if (chance % t->one_in != 0)
            return;
        draw_id(t, is->trace, sizeof is->trace);
    }
    draw_id(t, is->span, sizeof is->span);
    is->on = true;
}

struct kl_trace kl_trace_child(struct kl_tracer *t, const struct kl_trace *parent)
{
    struct kl_trace is = *parent;

    is.on = parent->on && t != NULL;
    if (is.on)
        draw_id(t, is.span, sizeof is.span);
    return is;
}

/* ---- spans ---- */

void kl_trace_span_begin(struct kl_trace_span *s, const struct kl_trace *is, const uint8_t parent[8],
                         const char *name, enum kl_trace_kind kind, int64_t begin_ns)
{
    size_t name_size = strnlen(name, KL_TRACE_NAME_MAX);

    s->is = *is;
    memcpy(s->parent, parent, sizeof s->parent);
    s->link.on = false;
    memcpy(s->name, name, name_size);
    s->name[name_size] = '\0';
    s->kind = kind;
    s->begin_ns = s->end_ns = begin_ns;
    s->failed = false;
    s->attr_count = 0;
    s->text_bytes = 0;
}

void kl_trace_span_number(struct kl_trace_span *s, const char *name, int64_t number)
{
    if (s->attr_count < KL_TRACE_ATTRS_MAX)
        s->attrs[s->attr_count++] = (struct kl_trace_attr){ .name = name, .is_number = true,
                                                            .number = number };
}

void kl_trace_span_text(struct kl_trace_span *s, const char *name, struct kl_span text)
{
    size_t left = KL_TRACE_TEXTS_MAX - s->text_bytes, size = text.size < left ? text.size : left;

    if (s->attr_count == KL_TRACE_ATTRS_MAX || size == 0)
        return;
    /* Not within a character: what is not UTF-8 a collector refuses, and all that came with it. */
    if (size < text.size)
        while (size > 0 && (((const uint8_t *)text.at)[size] & 0xc0) == 0x80)
            size--;
    memcpy(s->texts + s->text_bytes, text.at, size);
    s->attrs[s->attr_count++] = (struct kl_trace_attr){ .name = name, .at = (uint16_t)s->text_bytes,
                                                        .size = (uint16_t)size };
    s->text_bytes += size;
}

void kl_trace_span_end(struct kl_tracer *t, struct kl_trace_span *s, int64_t end_ns)
{
    s->end_ns = end_ns < s->begin_ns ? s->begin_ns : end_ns;
    t->emit(t, s);
}
