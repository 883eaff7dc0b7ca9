#ifndef TEST_WIRE_H
#define TEST_WIRE_H
/* Writing protobuf by hand, for tests of what reads it: field after field into a kl_buf. */
#include <string.h>

#include "libkoal/base/buf.h"

static inline void w_tag(struct kl_buf *b, uint32_t number, uint8_t type)
{
    kl_buf_addv(b, (uint64_t)number << 3 | type);
}

static inline void w_varint(struct kl_buf *b, uint32_t number, uint64_t v)
{
    w_tag(b, number, 0);
    kl_buf_addv(b, v);
}

static inline void w_zigzag(struct kl_buf *b, uint32_t number, int64_t v)
{
    w_tag(b, number, 0);
    kl_buf_addz(b, v);
}

static inline void w_double(struct kl_buf *b, uint32_t number, double v)
{
    w_tag(b, number, 1);
    kl_buf_addf64(b, v);
}

static inline void w_text(struct kl_buf *b, uint32_t number, const char *text)
{
    w_tag(b, number, 2);
    kl_buf_addspan(b, kl_span_str(text));
}

/* `inner` as a sub-message, or as packed numbers; it is emptied for the next. */
static inline void w_message(struct kl_buf *b, uint32_t number, struct kl_buf *inner)
{
    w_tag(b, number, 2);
    kl_buf_addspan(b, kl_buf_span(inner));
    kl_buf_reset(inner);
}
#endif
