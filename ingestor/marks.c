/*
 * When each hour was written to last: the log position of the newest record that brought something of
 * that hour, for who keeps answers and wants to know whether they still hold.
 *
 * Hours lie in a ring by their number; one that finds its place taken drives the other out, whose
 * position `rest` remembers for all hours that have no place. So a position told is never too low:
 * whatever was written to an hour came in records up to it, also such as are read again and whose samples
 * the catalogue has. What lies before a load is not known, and
 * stands in `rest` from the beginning.
 */
#include "ingestor/ing_priv.h"

enum { HOUR_MS = 3600 * 1000 };

static int64_t hour_of(int64_t time_ms)
{
    return time_ms / HOUR_MS - (time_ms % HOUR_MS < 0);
}

void ing_marks_reset(struct ing_marks *m, uint64_t seq)
{
    *m = (struct ing_marks){ .rest = seq };
}

void ing_marks_hour(struct ing_marks *m, int64_t time_ms, uint64_t seq)
{
    int64_t          hour = hour_of(time_ms);
    struct ing_mark *at = &m->at[(uint64_t)hour % ING_MARKS];

    if (at->seq != 0 && at->hour != hour && at->seq > m->rest)
        m->rest = at->seq;
    *at = (struct ing_mark){ hour, seq };
    /* Until the next record nothing of this hour is news. */
    if (hour > INT64_MIN / HOUR_MS + 1 && hour < INT64_MAX / HOUR_MS - 1) {
        m->from_ms = hour * HOUR_MS;
        m->to_ms = m->from_ms + HOUR_MS;
    }
}

void ing_marks_span(struct ing_marks *m, int64_t from_ms, int64_t to_ms, uint64_t seq)
{
    int64_t from = hour_of(from_ms), to = hour_of(to_ms);

    if (to - from < ING_MARKS / 4) {                   /* few: each has its place, and `rest` stays for others */
        for (int64_t hour = from; hour <= to; hour++)
            ing_marks_hour(m, hour == from ? from_ms : hour * HOUR_MS, seq);
    } else {
        for (uint32_t i = 0; i < ING_MARKS; i++)
            if (m->at[i].seq != 0 && m->at[i].hour >= from && m->at[i].hour <= to)
                m->at[i].seq = seq;
        m->rest = seq;
    }
    m->from_ms = m->to_ms = 0;
}

void ing_marks_tell(const struct ing_marks *m, int64_t from_ms, int64_t to_ms, struct kl_buf *out)
{
    int64_t from = hour_of(from_ms), to = hour_of(to_ms);

    tsp_marks_begin(out, m->rest);
    for (uint32_t i = 0; i < ING_MARKS; i++)
        if (m->at[i].seq != 0 && m->at[i].hour >= from && m->at[i].hour <= to)
            tsp_marks_add(out, m->at[i].hour, m->at[i].seq);
}
