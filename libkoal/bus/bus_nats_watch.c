/*
 * Watches of keys: each an "eye", a tap over the whole bucket. What it brings is told on the watcher's
 * loop, batch by batch.
 *
 * An eye that begins anew may lie on a server that lags, or that has passed a change over for good (2.9,
 * bus_nats_log.c): so it remembers the revision of each key that it told, and tells nothing older; and now
 * and then it begins anew, on whichever server that draws.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include "libkoal/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RENEW_MS = 20000 };

struct told { uint64_t key, revision; };               /* a key's hash; 0: unused */
struct eye {
    struct kl_busn_tap tap;                            /* its references are the eye's */
    struct kl_bus_watch *watch;                        /* touched on its loop only */
    bool current, tell_current;                        /* the bus's loop's */
    int64_t renew_ns;                                  /* when next, whatever happens */
    size_t key_at;                                     /* where in a subject its key begins */
    char prefix[KL_BUS_KEY_MAX + 1];
    bool batch_current;                                /* the delivery */
    struct told *told; size_t told_count, told_room;   /* the watcher's loop's; the room a power of two */
};

static struct eye *eye_of(struct kl_busn_tap *t) { return kl_container_of(t, struct eye, tap); }

static void eye_free(struct kl_busn_tap *t)
{
    free(eye_of(t)->told);
    free(eye_of(t));
}

/* ---- what was told of each key ---- */

static struct told *told_of(struct told *told, size_t room, uint64_t key)
{
    size_t i = key & (room - 1);

    while (told[i].key != 0 && told[i].key != key)
        i = (i + 1) & (room - 1);
    return &told[i];
}

static void told_grow(struct eye *e)
{
    size_t       room = e->told_room == 0 ? 64 : 2 * e->told_room;
    struct told *more = kl_new(room * sizeof *more);

    for (size_t i = 0; i < e->told_room; i++)
        if (e->told[i].key != 0)
            *told_of(more, room, e->told[i].key) = e->told[i];
    free(e->told);
    e->told = more;
    e->told_room = room;
}

/* Is it older than what was told of its key? What others put there, without a revision of ours, never is. */
static bool is_older(struct eye *e, const char *key, natsMsg *msg)
{
    uint64_t     hash = kl_hash64(key, strlen(key)), revision = kl_busn_revision(msg, 0);
    struct told *t;

    if (2 * e->told_count >= e->told_room)
        told_grow(e);
    t = told_of(e->told, e->told_room, hash + (hash == 0));
    if (revision != 0 && revision < t->revision)
        return true;
    e->told_count += t->key == 0;
    *t = (struct told){ hash + (hash == 0), revision };
    return false;
}

/* On the watcher's loop. */
static void eye_tell(struct kl_busn_tap *t)
{
    struct eye *e = eye_of(t);

    for (struct kl_busn_drop *d = t->batch; d != NULL; d = d->next) {
        const char *key = natsMsg_GetSubject(d->msg) + e->key_at;
        const char *value = natsMsg_GetData(d->msg) != NULL ? natsMsg_GetData(d->msg) : "";
        bool marker = kl_busn_is_marker(d->msg);

        if (!kl_busn_tap_hears(t))
            break;
        if (strncmp(key, e->prefix, strlen(e->prefix)) == 0 && !is_older(e, key, d->msg))
            e->watch->change(e->watch, key,
                             marker ? kl_span(NULL, 0)
                                    : kl_span(value, (size_t)natsMsg_GetDataLength(d->msg)),
                             kl_busn_revision(d->msg, d->seq));
    }
    if (e->batch_current && kl_busn_tap_hears(t))
        e->watch->current(e->watch);
}

/* Up to where all present keys have been told: `current` must not wait for later changes. */
static void eye_pump(struct kl_busn_tap *t)
{
    struct eye *e = eye_of(t);

    if (!kl_busn_tap_may_send(t) || (t->first == NULL && !e->tell_current))
        return;
    e->batch_current = e->tell_current;
    e->tell_current = false;
    kl_busn_tap_send(t);
}

static enum kl_code eye_check(struct kl_busn_tap *t, int64_t wait_ms, bool *may,
                              struct kl_err *err)
{
    (void)wait_ms;
    atomic_store(&t->bus->bucket_ready, false);        /* ask: why else are we renewed? */
    *may = kl_busn_bucket(t->bus, err) == KL_OK;
    return *may ? KL_OK : err->code;
}

static void current(struct eye *e)
{
    if (e->current)
        return;
    e->current = e->tell_current = true;
    eye_pump(&e->tap);
}

static void eye_attached(struct kl_busn_tap *t, bool may, uint64_t pending)
{
    if (may && pending == 0)
        current(eye_of(t));
}

static void eye_drop(struct kl_busn_tap *t, struct kl_busn_drop *d)
{
    struct eye *e = eye_of(t);

    bool        all = d->pending == 0;

    kl_busn_tap_put(t, d);
    if (all && !e->current)
        current(e);
    eye_pump(t);
}

static void eye_tick(struct kl_busn_tap *t, int64_t now_ns)
{
    struct eye *e = eye_of(t);

    if (t->bus->options.log_replicas == 1 || now_ns < e->renew_ns)
        return;
    if (e->renew_ns != 0)
        kl_busn_tap_renew(t);
    e->renew_ns = now_ns + (RENEW_MS / 2 + (int64_t)(kl_env_draw(t->bus->env) % RENEW_MS)) * 1000000;
}

void kl_busn_watch(struct kl_bus *bus, struct kl_bus_watch *w)
{
    struct kl_busn *b = kl_busn(bus);
    struct eye     *e;
    char name[KL_BUSN_NAME_MAX + 1];

    w->own = NULL;
    if (!kl_busn_enter(b))
        return;
    e = kl_new(sizeof *e);
    e->tap.check = eye_check;
    e->tap.attached = eye_attached;
    e->tap.drop = eye_drop;
    e->tap.free = eye_free;
    e->tap.tick = eye_tick;
    e->tap.tell = eye_tell;
    e->tap.pump = eye_pump;
    e->watch = w;
    snprintf(e->prefix, sizeof e->prefix, "%s", w->prefix);
    kl_busn_bucket_name(b, name);
    snprintf(e->tap.stream, sizeof e->tap.stream, "KV_%.64s", name);
    snprintf(e->tap.filter, sizeof e->tap.filter, "$KV.%.64s.>", name);
    e->key_at = strlen(e->tap.filter) - 1;
    kl_busn_tap_begin(b, &e->tap, w->loop, &w->own);
}

void kl_busn_unwatch(struct kl_bus *bus, struct kl_bus_watch *w)
{
    (void)bus;
    kl_busn_tap_end(&w->own);
}
