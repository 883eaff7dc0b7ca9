#include "libkoal/base/hedge.h"

#include <stdlib.h>
#include <string.h>

enum { LEARN_EVERY = 16 };

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void learn(struct kl_hedge *h)
{
    int64_t sorted[KL_HEDGE_ANSWERS];
    size_t  count = h->answers < KL_HEDGE_ANSWERS ? (size_t)h->answers : KL_HEDGE_ANSWERS;

    memcpy(sorted, h->took_ns, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_time);
    h->after_ms = sorted[count * 95 / 100] / 1000000 + 1;
    if (h->after_ms < h->least_ms)
        h->after_ms = h->least_ms;
    if (h->after_ms > h->most_ms)
        h->after_ms = h->most_ms;
}

void kl_hedge_asked(struct kl_hedge *h, unsigned percent)
{
    h->spent = h->spent > percent ? h->spent - percent : 0;
}

void kl_hedge_answered(struct kl_hedge *h, int64_t took_ns)
{
    h->took_ns[h->answers++ % KL_HEDGE_ANSWERS] = took_ns;
    if (h->answers % LEARN_EVERY == 0)
        learn(h);
}

int64_t kl_hedge_after_ms(const struct kl_hedge *h) { return h->after_ms == 0 ? h->first_ms : h->after_ms; }

bool kl_hedge_may(struct kl_hedge *h)
{
    if (h->spent + 100 > h->burst * 100)
        return false;
    h->spent += 100;
    return true;
}
