/*
 * A traceparent of any bytes: what is read is written as it was, up to its version and the flags that we
 * do not know. And a span with any text is a message that can be walked, its texts UTF-8.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/app/trace_priv.h"
#include "libkoal/base/labels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_it(struct kl_span bytes)
{
    struct kl_trace t = { .on = true }, again;
    char            text[KL_TRACE_TEXT + 1];

    if (!kl_trace_parse(bytes, &t)) {
        if (t.on)
            abort();
        return;
    }
    kl_trace_text(&t, text);
    if (memcmp(text + 3, (const char *)bytes.at + 3, 50) != 0 || !kl_trace_parse(kl_span_str(text), &again) ||
        again.on != t.on)
        abort();
}

/* The field of that number, or nothing; what is no message aborts. */
static struct kl_span field(struct kl_span message, uint64_t number)
{
    struct kl_cur  c = kl_cur(message.at, message.size);
    struct kl_span found = { NULL, 0 };

    while (kl_cur_left(&c) > 0) {
        uint64_t       tag = kl_cur_v(&c);
        struct kl_span value = { c.at, 0 };

        switch (tag & 7) {
        case 0: kl_cur_v(&c); break;
        case 1: kl_cur_bytes(&c, 8); break;
        case 2: value = kl_cur_span(&c); break;
        case 5: kl_cur_bytes(&c, 4); break;
        default: abort();
        }
        if (c.bad)
            abort();
        if (tag >> 3 == number)
            found = value;
    }
    return found;
}

static void encode(struct kl_span bytes)
{
    const struct kl_app_trace_from from = { .service = "fuzz" };
    struct kl_trace      is = { .on = true };
    struct kl_trace_span s;
    struct kl_buf        out = { 0 };
    struct kl_span       span;

    kl_trace_span_begin(&s, &is, is.span, "work", KL_TRACE_INTERNAL, 1);
    kl_trace_span_text(&s, "text", bytes);
    kl_app_trace_encode(&from, &s, 1, 1, &out);
    span = field(field(field(kl_buf_span(&out), 1), 2), 2);
    if (span.size == 0)
        abort();
    if (bytes.size > 0 && !kl_utf8_ok(field(field(field(span, 9), 2), 1)))
        abort();
    kl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_it(kl_span(data, size));
    encode(kl_span(data, size));
    return 0;
}
