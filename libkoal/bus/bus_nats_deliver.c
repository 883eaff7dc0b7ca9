/*
 * What a tap brought, on its way to who wanted it: batch by batch, one at a time, over the loop of the reader or
 * the watcher and back. What it holds meanwhile counts against what the tap may ask for.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <stdlib.h>

static void on_back(struct kl_env_task *task)
{
    struct kl_busn_tap  *t = kl_container_of(task, struct kl_busn_tap, delivery);
    struct kl_busn_drop *batch = t->batch;

    t->batch = NULL;
    kl_busn_tap_done(t, batch);
    t->away = false;
    t->pump(t);
    kl_busn_tap_unref(t);
}

/* On their loop. */
static void on_delivery(struct kl_env_task *task)
{
    struct kl_busn_tap *t = kl_container_of(task, struct kl_busn_tap, delivery);
    struct kl_busn     *b = t->bus;

    t->tell(t);
    if (kl_busn_enter(b)) {
        t->delivery.run = on_back;
        kl_busn_post(b, b->loop, &t->delivery);
        kl_busn_leave(b);
    } else {
        struct kl_busn_drop *batch = t->batch;

        t->batch = NULL;
        kl_busn_drops_free(batch);
        kl_busn_tap_unref(t);
    }
}

bool kl_busn_tap_may_send(const struct kl_busn_tap *t)
{
    return !t->away && !t->closed && !atomic_load(&t->bus->closed);
}

void kl_busn_tap_put(struct kl_busn_tap *t, struct kl_busn_drop *d)
{
    d->next = NULL;
    *t->last = d;
    t->last = &d->next;
}

void kl_busn_tap_send(struct kl_busn_tap *t)
{
    t->batch = t->first;
    t->first = NULL;
    t->last = &t->first;
    t->away = true;
    kl_busn_tap_ref(t);
    t->delivery.run = on_delivery;
    kl_busn_post(t->bus, t->loop, &t->delivery);
}

bool kl_busn_tap_hears(const struct kl_busn_tap *t) { return !t->gone && !atomic_load(&t->bus->closed); }

/* ---- from their loop ---- */

static void on_open(struct kl_env_task *task)
{
    struct kl_busn_tap *t = kl_container_of(task, struct kl_busn_tap, open);

    kl_busn_tap_open(t->bus, t);
}

static void on_close(struct kl_env_task *task)
{
    kl_busn_tap_close(kl_container_of(task, struct kl_busn_tap, close));
}

void kl_busn_tap_begin(struct kl_busn *b, struct kl_busn_tap *t, struct kl_env_loop *loop, void **own)
{
    *own = t;
    atomic_init(&t->refs, 1);
    t->bus = b;
    t->loop = loop;
    t->last = &t->first;
    t->open.run = on_open;
    t->close.run = on_close;
    kl_busn_post(b, b->loop, &t->open);
    kl_busn_leave(b);
}

void kl_busn_tap_end(void **own)
{
    struct kl_busn_tap *t = *own;
    struct kl_busn     *b;

    *own = NULL;
    if (t == NULL)
        return;
    b = t->bus;
    t->gone = true;
    if (kl_busn_enter(b)) {
        kl_busn_post(b, b->loop, &t->close);
        kl_busn_leave(b);
    }
}
