#include "doorman/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *name, *words; } reasons[DM_REASONS] = {
    [DM_GOOD] = { "none", "" },
    [DM_NAMELESS] = { "no_name", "without a metric name" },
    [DM_UNSORTED] = { "unsorted_labels", "with label names out of order" },
    [DM_TWICE] = { "duplicate_label", "with a label name given twice" },
    [DM_NO_LABEL_NAME] = { "empty_label_name", "with an empty label name" },
    [DM_NOT_UTF8] = { "invalid_utf8", "with a label that is not UTF-8" },
    [DM_MALFORMED] = { "malformed_labels", "with malformed labels" },
    [DM_TOO_MANY_LABELS] = { "too_many_labels", "with more labels than limits.label_count_max" },
    [DM_LONG_NAME] = { "long_label_name", "with a label name longer than limits.name_bytes_max" },
    [DM_LONG_VALUE] = { "long_label_value", "with a label value longer than limits.value_bytes_max" },
    [DM_LARGE_SET] = { "large_label_set", "with too large a label set" },
    [DM_TOO_OLD] = { "too_old", "older than limits.past" },
    [DM_TOO_NEW] = { "too_new", "newer than limits.future" },
    [DM_TOO_MANY_SERIES] = { "too_many_series", "of series beyond limits.series_max" },
    [DM_TOO_MANY_SAMPLES] = { "too_many_samples", "beyond limits.samples_per_push_max" },
    [DM_TOO_MANY_CLUSTERS] = { "too_many_clusters", "of HA clusters beyond ha.clusters_max" },
    [DM_BAD_HIST] = { "invalid_histogram", "with an invalid histogram" },
    [DM_BAD_EXEMPLAR] = { "invalid_exemplar", "with an invalid exemplar" },
    [DM_BAD_METADATA] = { "invalid_metadata", "metadata that is no metric's" },
    [DM_BAD_LINE] = { "bad_line", "on a line that does not parse" },
    [DM_BAD_NUMBER] = { "bad_number", "with a value or timestamp that is no number" },
    [DM_BROKEN] = { "broken_message", "beyond the point where the message breaks off" },
    [DM_BAD_POINT] = { "invalid_point", "that are no data points" },
    [DM_NO_VALUE] = { "no_value", "without a value" },
    [DM_TEMPORALITY] = { "invalid_temporality", "of no temporality, or of one that otlp.delta refuses" },
    [DM_DELTA_LATE] = { "late_delta", "deltas not newer than the last" },
    [DM_DELTA_FULL] = { "too_many_deltas", "deltas beyond what otlp.delta_bytes_max can remember" },
};

const char *dm_reason_name(enum dm_reason r) { return reasons[r].name; }

enum dm_reason dm_inspect_form(const struct kl_labels_builder *b, bool in_order)
{
    size_t left = KL_LABELS_BYTES_MAX;

    for (size_t i = 0; i < b->count; i++) {
        const struct kl_label *x = &b->pairs[i];
        if (x->name.size == 0)
            return DM_NO_LABEL_NAME;
        if (x->name.size > left || x->value.size > left - x->name.size)
            return DM_LARGE_SET;
        left -= x->name.size + x->value.size;
        if (!kl_utf8_ok(x->name) || !kl_utf8_ok(x->value))
            return DM_NOT_UTF8;
        for (size_t k = 0; k < i; k++)
            if (kl_span_eq(b->pairs[k].name, x->name))
                return DM_TWICE;
        if (in_order && i > 0 && kl_span_cmp(b->pairs[i - 1].name, x->name) > 0)
            return DM_UNSORTED;
    }
    return DM_GOOD;
}

enum dm_reason dm_inspect_labels(const struct dm_limits *limits, const struct kl_labels_builder *b,
                                 bool in_order, struct kl_span *metric)
{
    static const struct kl_span name_label = { "__name__", 8 };
    size_t count = 0;

    *metric = kl_span("", 0);
    for (size_t i = 0; i < b->count; i++) {
        const struct kl_label *x = &b->pairs[i];
        if (x->name.size == 0)
            return DM_NO_LABEL_NAME;
        if (x->name.size > limits->name_bytes_max)
            return DM_LONG_NAME;
        if (x->value.size > limits->value_bytes_max)
            return DM_LONG_VALUE;
        if (in_order && i > 0) {
            int order = kl_span_cmp(b->pairs[i - 1].name, x->name);
            if (order >= 0)
                return order == 0 ? DM_TWICE : DM_UNSORTED;
        }
        if (!kl_utf8_ok(x->name) || !kl_utf8_ok(x->value))
            return DM_NOT_UTF8;
        if (kl_span_eq(x->name, name_label))
            *metric = x->value;
        count += x->value.size > 0;                    /* an empty value is no label */
    }
    if (metric->size == 0)
        return DM_NAMELESS;
    return count > limits->label_count_max ? DM_TOO_MANY_LABELS : DM_GOOD;
}

enum dm_reason dm_inspect_time(const struct dm_limits *limits, int64_t now_ms, int64_t time_ms)
{
    if (time_ms < -DM_TIME_MAX || (limits->past_ms > 0 && time_ms < now_ms - limits->past_ms))
        return DM_TOO_OLD;
    if (time_ms > DM_TIME_MAX || (limits->future_ms > 0 && time_ms > now_ms + limits->future_ms))
        return DM_TOO_NEW;
    return DM_GOOD;
}

/* ---- saying so ---- */

struct writer { char *at; size_t left; };

static void put(struct writer *w, char c)
{
    if (w->left > 1) {
        *w->at++ = c;
        w->left--;
    }
}

/* As in the text format; whatever is no plain text of the sender's becomes a dot. */
static void put_span(struct writer *w, struct kl_span s, size_t most)
{
    const uint8_t *at = s.at;
    bool           clean = kl_utf8_ok(s);

    for (size_t i = 0; i < s.size && i < most; i++)
        put(w, at[i] < 0x20 || at[i] == 0x7f || (at[i] > 0x7f && !clean) ? '.' : (char)at[i]);
    for (int i = 0; s.size > most && i < 3; i++)
        put(w, '.');
}

/* Cut at a character's end: half a character would make the whole answer invalid. */
static void end(struct writer *w, char *begin)
{
    *w->at = '\0';
    while (w->left <= 1 && w->at > begin && !kl_utf8_ok(kl_span_str(begin)))
        *--w->at = '\0';
}

static void name_series(const struct kl_labels_builder *b, char *text, size_t size)
{
    struct writer w = { .at = text, .left = size };
    bool          first = true;

    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, kl_span("__name__", 8)))
            put_span(&w, b->pairs[i].value, 50);
    put(&w, '{');
    for (size_t i = 0; i < b->count && w.left > 8; i++) {
        if (kl_span_eq(b->pairs[i].name, kl_span("__name__", 8)))
            continue;
        if (!first)
            put(&w, ',');
        first = false;
        put_span(&w, b->pairs[i].name, 30);
        put(&w, '=');
        put(&w, '"');
        put_span(&w, b->pairs[i].value, 30);
        put(&w, '"');
    }
    put(&w, '}');
    end(&w, text);
}

void dm_report_add(struct dm_report *r, enum dm_reason why, uint64_t count,
                   const struct kl_labels_builder *b, const char *words)
{
    bool first = r->counts[why] == 0;

    r->total += count;
    r->counts[why] += count;
    if (!first || count == 0)
        return;
    if (b != NULL)
        name_series(b, r->first[why], sizeof r->first[why]);
    else
        snprintf(r->first[why], sizeof r->first[why], "%s", words);
}

void dm_report_write(const struct dm_report *r, uint64_t stored, char *text, size_t size)
{
    int n = snprintf(text, size, "%" PRIu64 " refused, %" PRIu64 " stored", r->total, stored);
    const char *before = ": ";

    for (int i = 1; i < DM_REASONS && n > 0 && (size_t)n < size; i++) {
        if (r->counts[i] == 0)
            continue;
        n += snprintf(text + n, size - (size_t)n, "%s%" PRIu64 " %s, the first: %s", before,
                      r->counts[i], reasons[i].words, r->first[i]);
        before = "; ";
    }
    if (n > 0 && (size_t)n >= size)                    /* cut: perhaps in the middle of a character */
        for (size_t at = strlen(text); at > 0 && !kl_utf8_ok(kl_span(text, at)); )
            text[--at] = '\0';
}
