#ifndef KL_BUF_H
#define KL_BUF_H
/*
 * A growable byte buffer with a cap. Appends past the cap set `over` and are dropped, so a writer
 * checks once at the end (kl_buf_ok). Plain value, one thread; {0} with cap 0 means "no cap":
 * only for output whose size a _MAX elsewhere bounds. Memory failure aborts.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "libkoal/base/mem.h"

struct kl_buf { char *at; size_t size, room, cap; bool over; };

void kl_buf_init(struct kl_buf *b, size_t cap_bytes);
void kl_buf_deinit(struct kl_buf *b);
void kl_buf_reset(struct kl_buf *b);                   /* size 0, keeps the room */
bool kl_buf_reserve(struct kl_buf *b, size_t more);    /* room for `more`; false (over) past the cap */
void kl_buf_add(struct kl_buf *b, const void *bytes, size_t size);
void kl_buf_addf(struct kl_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kl_buf_adds(struct kl_buf *b, const char *text);
void kl_buf_add8_grow(struct kl_buf *b, uint8_t v);    /* kl_buf_add8 without room */
static inline void kl_buf_add8(struct kl_buf *b, uint8_t v)
{
    if (b->size < b->room)
        b->at[b->size++] = (char)v;
    else
        kl_buf_add8_grow(b, v);
}
void kl_buf_add16(struct kl_buf *b, uint16_t v);       /* little-endian, as all our formats */
void kl_buf_add32(struct kl_buf *b, uint32_t v);
void kl_buf_add64(struct kl_buf *b, uint64_t v);
void kl_buf_addf64(struct kl_buf *b, double v);        /* the bits, NaN payloads kept */
void kl_buf_addv(struct kl_buf *b, uint64_t v);        /* LEB128 varint, at most 10 bytes */
void kl_buf_addz(struct kl_buf *b, int64_t v);         /* zigzag varint */
void kl_buf_addspan(struct kl_buf *b, struct kl_span s);      /* varint length, then the bytes */
static inline bool kl_buf_ok(const struct kl_buf *b) { return !b->over; }
static inline struct kl_span kl_buf_span(const struct kl_buf *b) { return kl_span(b->at, b->size); }

/*
 * A reading cursor over borrowed bytes. A read past the end, or an overlong varint, sets `bad`,
 * moves to the end and returns 0; check `bad` once after a group of reads, and before any use of
 * a value as a size or an index.
 */
struct kl_cur { const uint8_t *at, *end; bool bad; };
struct kl_cur  kl_cur(const void *bytes, size_t size);
size_t         kl_cur_left(const struct kl_cur *c);
uint8_t        kl_cur_8_end(struct kl_cur *c);         /* kl_cur_8 when nothing is left */
static inline uint8_t kl_cur_8(struct kl_cur *c) { return c->at < c->end ? *c->at++ : kl_cur_8_end(c); }
uint16_t       kl_cur_16(struct kl_cur *c);
uint32_t       kl_cur_32(struct kl_cur *c);
uint64_t       kl_cur_64(struct kl_cur *c);
double         kl_cur_f64(struct kl_cur *c);
uint64_t       kl_cur_v_long(struct kl_cur *c);        /* kl_cur_v of more than a byte, or none */
static inline uint64_t kl_cur_v(struct kl_cur *c)
{
    return c->at < c->end && *c->at < 0x80 ? *c->at++ : kl_cur_v_long(c);
}
int64_t        kl_cur_z(struct kl_cur *c);
struct kl_span kl_cur_span(struct kl_cur *c);          /* varint length, then that many bytes */
struct kl_span kl_cur_bytes(struct kl_cur *c, size_t size);
#endif
