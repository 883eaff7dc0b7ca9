#include "libkoal/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void kl_buf_init(struct kl_buf *b, size_t cap_bytes) { *b = (struct kl_buf){ .cap = cap_bytes }; }

void kl_buf_deinit(struct kl_buf *b)
{
    free(b->at);
    *b = (struct kl_buf){ .cap = b->cap };
}

void kl_buf_reset(struct kl_buf *b)
{
    b->size = 0;
    b->over = false;
}

bool kl_buf_reserve(struct kl_buf *b, size_t more)
{
    size_t room;

    if (more <= b->room - b->size)
        return true;
    if (more > SIZE_MAX / 4 || (b->cap != 0 && (b->size > b->cap || more > b->cap - b->size))) {
        b->over = true;
        return false;
    }
    room = b->room < 64 ? 64 : b->room * 2;
    while (room < b->size + more)
        room *= 2;
    if (b->cap != 0 && room > b->cap)
        room = b->cap;
    b->at = kl_resize(b->at, room);
    b->room = room;
    return true;
}

void kl_buf_add(struct kl_buf *b, const void *bytes, size_t size)
{
    if (size == 0 || !kl_buf_reserve(b, size))
        return;
    memcpy(b->at + b->size, bytes, size);
    b->size += size;
}

void kl_buf_adds(struct kl_buf *b, const char *text) { kl_buf_add(b, text, strlen(text)); }

void kl_buf_addf(struct kl_buf *b, const char *fmt, ...)
{
    va_list ap;
    int     n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !kl_buf_reserve(b, (size_t)n + 1)) {
        b->over = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(b->at + b->size, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->size += (size_t)n;
}

void kl_buf_add8_grow(struct kl_buf *b, uint8_t v) { kl_buf_add(b, &v, 1); }

void kl_buf_add16(struct kl_buf *b, uint16_t v)
{
    kl_buf_add(b, (uint8_t[]){ (uint8_t)v, (uint8_t)(v >> 8) }, 2);
}

void kl_buf_add32(struct kl_buf *b, uint32_t v)
{
    uint8_t at[4];

    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> 8 * i);
    kl_buf_add(b, at, sizeof at);
}

void kl_buf_add64(struct kl_buf *b, uint64_t v)
{
    uint8_t at[8];

    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(v >> 8 * i);
    kl_buf_add(b, at, sizeof at);
}

void kl_buf_addf64(struct kl_buf *b, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    kl_buf_add64(b, bits);
}

void kl_buf_addv(struct kl_buf *b, uint64_t v)
{
    uint8_t at[10];
    size_t  n = 0;

    for (; v > 0x7f; v >>= 7)
        at[n++] = (uint8_t)v | 0x80;
    at[n++] = (uint8_t)v;
    kl_buf_add(b, at, n);
}

void kl_buf_addz(struct kl_buf *b, int64_t v)
{
    kl_buf_addv(b, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

void kl_buf_addspan(struct kl_buf *b, struct kl_span s)
{
    kl_buf_addv(b, s.size);
    kl_buf_add(b, s.at, s.size);
}

struct kl_cur kl_cur(const void *bytes, size_t size)
{
    /* NULL and nothing is a fine span, but C does not allow to add even 0 to NULL. */
    return (struct kl_cur){ .at = bytes, .end = size == 0 ? bytes : (const uint8_t *)bytes + size };
}

size_t kl_cur_left(const struct kl_cur *c) { return (size_t)(c->end - c->at); }

/* Takes `size` bytes, or goes bad. */
static const uint8_t *take(struct kl_cur *c, size_t size)
{
    const uint8_t *at = c->at;

    if (size > kl_cur_left(c)) {
        c->bad = true;
        c->at = c->end;
        return NULL;
    }
    c->at += size;
    return at;
}

static uint64_t fixed(struct kl_cur *c, size_t size)
{
    const uint8_t *at = take(c, size);
    uint64_t       v = 0;

    for (size_t i = 0; at != NULL && i < size; i++)
        v |= (uint64_t)at[i] << 8 * i;
    return v;
}

uint8_t  kl_cur_8_end(struct kl_cur *c) { return (uint8_t)fixed(c, 1); }
uint16_t kl_cur_16(struct kl_cur *c) { return (uint16_t)fixed(c, 2); }
uint32_t kl_cur_32(struct kl_cur *c) { return (uint32_t)fixed(c, 4); }
uint64_t kl_cur_64(struct kl_cur *c) { return fixed(c, 8); }

double kl_cur_f64(struct kl_cur *c)
{
    uint64_t bits = fixed(c, 8);
    double   v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

uint64_t kl_cur_v_long(struct kl_cur *c)
{
    uint64_t v = 0;

    for (unsigned shift = 0; c->at < c->end && shift < 70; shift += 7) {
        uint8_t b = *c->at++;
        if (shift == 63 && b > 1)
            break;                                     /* past 64 bits */
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    c->bad = true;
    c->at = c->end;
    return 0;
}

int64_t kl_cur_z(struct kl_cur *c)
{
    uint64_t v = kl_cur_v(c);

    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

struct kl_span kl_cur_bytes(struct kl_cur *c, size_t size)
{
    const uint8_t *at = take(c, size);

    return at == NULL ? kl_span("", 0) : kl_span(at, size);
}

struct kl_span kl_cur_span(struct kl_cur *c)
{
    uint64_t size = kl_cur_v(c);

    if (size > kl_cur_left(c)) {
        c->bad = true;
        c->at = c->end;
        return kl_span("", 0);
    }
    return kl_cur_bytes(c, (size_t)size);
}
