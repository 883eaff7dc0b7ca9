#include "libkoal/env/env_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>

static void put(struct kl_env_timers *t, size_t slot, struct kl_env_timer *timer)
{
    t->heap[slot] = timer;
    timer->slot = slot;
}

/* Moves the timer at `slot` to where its due time belongs. */
static void settle(struct kl_env_timers *t, size_t slot)
{
    struct kl_env_timer *timer = t->heap[slot];

    while (slot > 0 && t->heap[(slot - 1) / 2]->due_ns > timer->due_ns) {
        put(t, slot, t->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (size_t child; (child = 2 * slot + 1) < t->count; slot = child) {
        if (child + 1 < t->count && t->heap[child + 1]->due_ns < t->heap[child]->due_ns)
            child++;
        if (t->heap[child]->due_ns >= timer->due_ns)
            break;
        put(t, slot, t->heap[child]);
    }
    put(t, slot, timer);
}

void kl_env_timers_arm(struct kl_env_timers *t, struct kl_env_timer *timer, int64_t due_ns)
{
    if (!timer->armed) {
        if (t->count == t->room) {
            t->room = t->room > 0 ? 2 * t->room : 16;
            t->heap = kl_resize(t->heap, t->room * sizeof *t->heap);
        }
        put(t, t->count++, timer);
        timer->armed = true;
    }
    timer->due_ns = due_ns;
    settle(t, timer->slot);
}

void kl_env_timers_disarm(struct kl_env_timers *t, struct kl_env_timer *timer)
{
    size_t slot = timer->slot;

    if (!timer->armed)
        return;
    assert(slot < t->count && t->heap[slot] == timer); /* else armed on another loop */
    timer->armed = false;
    if (slot < --t->count) {
        put(t, slot, t->heap[t->count]);
        settle(t, slot);
    }
}

struct kl_env_timer *kl_env_timers_due(struct kl_env_timers *t, int64_t now_ns)
{
    struct kl_env_timer *timer = t->count > 0 ? t->heap[0] : NULL;

    if (timer == NULL || timer->due_ns > now_ns)
        return NULL;
    kl_env_timers_disarm(t, timer);
    return timer;
}

int64_t kl_env_timers_next_ns(const struct kl_env_timers *t)
{
    return t->count > 0 ? t->heap[0]->due_ns : INT64_MAX;
}

void kl_env_timers_deinit(struct kl_env_timers *t)
{
    for (size_t i = 0; i < t->count; i++)
        t->heap[i]->armed = false;
    free(t->heap);
    *t = (struct kl_env_timers){ 0 };
}

int64_t kl_env_due_ns(int64_t now_ns, int64_t delay_ms)
{
    if (delay_ms <= 0)
        return now_ns;
    return delay_ms > (INT64_MAX - now_ns) / 1000000 ? INT64_MAX : now_ns + delay_ms * 1000000;
}
