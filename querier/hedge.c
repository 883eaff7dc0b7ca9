/*
 * When a question to an ingestor is put to a second member of its partition: after the time in which
 * nineteen of twenty of the last answers came, within bounds. Where all are slow that would double
 * their load, so only a part of all questions may be put twice: each hedge is spent from
 * an allowance, to which each question gives a little back.
 */
#include <stdlib.h>
#include <string.h>

#include "querier/qr_priv.h"

enum { LEARN_EVERY = 32, BURST = 16 };

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void learn(struct qr_hedge *h)
{
    int64_t sorted[QR_HEDGE_ANSWERS];
    size_t  count = h->answers < QR_HEDGE_ANSWERS ? (size_t)h->answers : QR_HEDGE_ANSWERS;

    memcpy(sorted, h->took_ns, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_time);
    h->after_ms = sorted[count * 95 / 100] / 1000000 + 1;
    if (h->after_ms < QR_HEDGE_LEAST_MS)
        h->after_ms = QR_HEDGE_LEAST_MS;
    if (h->after_ms > QR_HEDGE_MOST_MS)
        h->after_ms = QR_HEDGE_MOST_MS;
}

void qr_hedge_asked(struct qr_shard *s)
{
    unsigned less = s->q->o.hedge_percent;

    s->hedge.spent = s->hedge.spent > less ? s->hedge.spent - less : 0;
}

void qr_hedge_answered(struct qr_shard *s, int64_t took_ns)
{
    struct qr_hedge *h = &s->hedge;

    h->took_ns[h->answers++ % QR_HEDGE_ANSWERS] = took_ns;
    if (h->answers % LEARN_EVERY == 0)
        learn(h);
}

int64_t qr_hedge_after_ms(const struct qr_shard *s)
{
    return s->hedge.after_ms == 0 ? QR_HEDGE_FIRST_MS : s->hedge.after_ms;
}

bool qr_hedge_may(struct qr_shard *s)
{
    if (s->hedge.spent + 100 > BURST * 100)
        return false;
    s->hedge.spent += 100;
    return true;
}
