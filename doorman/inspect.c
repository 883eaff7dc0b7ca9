#include "doorman/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *name, *words; } reasons[DM_REASONS] = {
    [DM_FINE] = { "fine", "fine" },
    [DM_NO_NAME] = { "no_name", "no metric name: the label __name__ is missing" },
    [DM_EMPTY_NAME] = { "empty_label_name", "a label without a name" },
    [DM_DUPLICATE_NAME] = { "duplicate_label_name", "a label name given twice" },
    [DM_UNSORTED] = { "unsorted_labels", "label names are not sorted" },
    [DM_NOT_UTF8] = { "not_utf8", "a label that is not valid UTF-8" },
    [DM_TOO_MANY_LABELS] = { "too_many_labels", "more labels than limits.label_count_max" },
    [DM_NAME_TOO_LONG] = { "label_name_too_long", "a label name longer than limits.name_bytes_max" },
    [DM_VALUE_TOO_LONG] = { "label_value_too_long", "a label value longer than limits.value_bytes_max" },
    [DM_LABELS_TOO_LONG] = { "labels_too_long", "labels too long together" },
    [DM_TOO_OLD] = { "too_old", "a timestamp older than limits.past" },
    [DM_TOO_NEW] = { "too_new", "a timestamp newer than limits.future" },
    [DM_MALFORMED] = { "malformed", "malformed" },
};

const char *dm_reason_name(enum dm_reason r) { return reasons[r].name; }
const char *dm_reason_words(enum dm_reason r) { return reasons[r].words; }

static enum dm_reason one(const struct kl_label *x, const struct dm_limits *limits)
{
    if (x->name.size == 0)
        return DM_EMPTY_NAME;
    if (x->name.size > limits->name_bytes_max)
        return DM_NAME_TOO_LONG;
    if (x->value.size > limits->value_bytes_max)
        return DM_VALUE_TOO_LONG;
    return kl_utf8_ok(x->name) && kl_utf8_ok(x->value) ? DM_FINE : DM_NOT_UTF8;
}

static enum dm_reason order(const struct kl_labels_builder *b)
{
    for (size_t i = 1; i < b->count; i++) {
        int c = kl_span_cmp(b->pairs[i - 1].name, b->pairs[i].name);
        if (c == 0)
            return DM_DUPLICATE_NAME;
        if (c > 0)
            return DM_UNSORTED;
    }
    return DM_FINE;
}

enum dm_reason dm_inspect(struct kl_labels_builder *b, const struct dm_limits *limits, bool sorted,
                          struct kl_buf *out)
{
    static const char name[] = "__name__";
    enum dm_reason    r = DM_FINE;
    struct kl_err     err;
    bool              named = false;

    if (b->count > limits->label_count_max)
        return DM_TOO_MANY_LABELS;
    for (size_t i = 0; i < b->count && r == DM_FINE; i++) {
        const struct kl_label *x = &b->pairs[i];
        r = one(x, limits);
        named |= x->value.size > 0 && kl_span_eq(x->name, kl_span(name, sizeof name - 1));
    }
    if (r == DM_FINE && sorted)
        r = order(b);
    if (r == DM_FINE && !named)
        r = DM_NO_NAME;
    if (r != DM_FINE)
        return r;
    switch (kl_labels_finish(b, out, &err)) {
    case KL_OK:     return DM_FINE;
    case KL_EINVAL: return DM_DUPLICATE_NAME;          /* empty names were refused above */
    default:        return DM_LABELS_TOO_LONG;
    }
}

/* A series as people read it: name{label="value",...}, cut where the room ends. */
static void show(const struct kl_labels_builder *b, char *out, size_t size)
{
    size_t at = 0;

    for (size_t i = 0; i < b->count && at < size; i++) {
        const struct kl_label *x = &b->pairs[i];
        int n = snprintf(out + at, size - at, "%s%.*s=\"%.*s\"", i == 0 ? "{" : ",",
                         (int)(x->name.size < 40 ? x->name.size : 40), (const char *)x->name.at,
                         (int)(x->value.size < 40 ? x->value.size : 40), (const char *)x->value.at);
        at += n < 0 ? 0 : (size_t)n;
    }
    if (at + 1 < size)
        snprintf(out + at, size - at, b->count == 0 ? "{}" : "}");
    for (char *c = out; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';                                  /* it may be why it was refused */
}

void dm_refuse(struct dm_refusals *r, enum dm_reason reason, const struct kl_labels_builder *b,
               const char *detail)
{
    r->count[reason]++;
    r->total++;
    if (r->named == DM_OFFENDERS_MAX)
        return;
    r->first[r->named].reason = reason;
    if (b != NULL)
        show(b, r->first[r->named].text, DM_OFFENDER_BYTES);
    else
        snprintf(r->first[r->named].text, DM_OFFENDER_BYTES, "%s", detail != NULL ? detail : "");
    r->named++;
}

void dm_refusals_text(const struct dm_refusals *r, char *text, size_t size)
{
    size_t      at = 0;
    const char *comma = "";

#define ADD(...) do { int n_ = snprintf(text + at, size - at, __VA_ARGS__); \
                      at = n_ < 0 || (size_t)n_ >= size - at ? size - 1 : at + (size_t)n_; } while (0)
    ADD("%" PRIu64 " refused, the rest was stored: ", r->total);
    for (int i = 1; i < DM_REASONS; i++)
        if (r->count[i] > 0) {
            ADD("%s%" PRIu64 " x %s", comma, r->count[i], reasons[i].words);
            comma = "; ";
        }
    ADD("\n");
    for (unsigned i = 0; i < r->named; i++)
        ADD("%s: %s\n", reasons[r->first[i].reason].words, r->first[i].text);
#undef ADD
}
