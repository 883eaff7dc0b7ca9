/*
 * Ingestors that go. `drain`: an operator takes one away for good. `keep`: the same said the other way round, by a
 * chart that knows who shall stay. `leave`: what a pod does before it is stopped, whether it comes back or not:
 *
 *   it marks itself "leaving", so that of two who leave at once neither counts on the other;
 *   waits until each partition that it has is had by another one, who is alive and has caught up;
 *   and where that does not come, drains itself, until it has nothing left.
 * `remove` is for one that is gone already, or broken: its partitions go to others at once, and its keys are deleted.
 *
 * The ingestor takes that mark back when it starts again. Nothing here is needed for what was acknowledged, which is
 * in the log: it keeps queries whole, and partitions on as many ingestors as they should be on.
 */
#include "koalemos/cluster_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_EVERY_MS = 300,
    DEAF_MS = 10000                                    /* who leaves waits so long for a NATS that is not there */
};

/* ---- the keys ---- */

struct putting {
    struct cluster    *c;
    struct kl_bus_kv   kv;
    struct kl_env_task begin;
};

static void put_done(struct kl_bus_kv *op)
{
    kl_app_wait_tell(kl_container_of(op, struct putting, kv)->c->wait);
}

static void put_begin(struct kl_env_task *task)
{
    struct putting *p = kl_container_of(task, struct putting, begin);

    p->c->bus->kv(p->c->bus, &p->kv);
}

/* NULL takes the mark away. */
static enum kl_code put_mark(struct cluster *c, const char *name, const char *value, struct kl_err *err)
{
    struct putting p = { .c = c, .begin.run = put_begin,
                         .kv = { .kind = value == NULL ? KL_BUS_KV_DELETE : KL_BUS_KV_PUT, .expect = UINT64_MAX,
                                 .value = kl_span_str(value == NULL ? "" : value), .loop = c->loop,
                                 .done = put_done } };

    snprintf(p.kv.key, sizeof p.kv.key, TSP_MARK_PREFIX "%s", name);
    c->wait = kl_app_wait_new();
    c->app->env->sched->post(c->loop, &p.begin);
    kl_app_wait_for(c->wait, INT64_C(86400000));       /* the bus gives it a bound of its own */
    kl_app_wait_free(c->wait);
    c->wait = NULL;
    if (p.kv.code != KL_OK) {
        *err = p.kv.err;
        return kl_within(err, "the mark of %s", name);
    }
    return KL_OK;
}

/* ---- looking ---- */

struct looking { struct dm_standings s; struct kl_app_wait *wait; };
struct watcher {
    struct cluster        *c;
    struct dm_coordinator *who;
    struct looking        *looking;
    struct dm_standings   *s;                          /* as last looked at */
    struct kl_app_wait    *never;
    int64_t                until_ns;
    int64_t                deaf_ms, deaf_ns;           /* how long NATS may be away, 0: for ever; since when it is */
};

static void looked(struct dm_standings *s)
{
    kl_app_wait_tell(kl_container_of(s, struct looking, s)->wait);
}

static struct watcher watch(struct cluster *c)
{
    struct watcher w = { .c = c, .who = cluster_looker(c), .never = kl_app_wait_new() };

    w.looking = kl_new(sizeof *w.looking);
    w.s = &w.looking->s;
    w.s->done = looked;
    w.deaf_ns = kl_env_mono_ns(c->app->env);
    w.until_ns = w.deaf_ns + c->wait_ms * 1000000;
    return w;
}

/* Everything was seen; else false, after a while. */
static bool look(struct watcher *w)
{
    w->looking->wait = kl_app_wait_new();
    dm_coordinator_standings(w->who, w->s);
    kl_app_wait_for(w->looking->wait, INT64_C(86400000));      /* a loop of this process answers it */
    kl_app_wait_free(w->looking->wait);
    return w->s->complete;
}

static bool time_left(struct watcher *w)
{
    int64_t       now_ns = kl_env_mono_ns(w->c->app->env);
    struct kl_err err;

    if (w->c->bus->healthy(w->c->bus, &err))
        w->deaf_ns = now_ns;
    if (now_ns >= w->until_ns || (w->deaf_ms > 0 && now_ns - w->deaf_ns >= w->deaf_ms * 1000000))
        return false;
    kl_app_wait_for(w->never, LOOK_EVERY_MS);
    return true;
}

static int unwatch(struct watcher *w, int code)
{
    w->c->bus->close(w->c->bus);
    dm_coordinator_free(w->who);
    kl_app_wait_free(w->never);
    free(w->looking);
    fflush(stdout);
    return code;
}

static const struct dm_standing *of(const struct watcher *w, const char *name)
{
    for (unsigned i = 0; i < w->s->count; i++)
        if (strcmp(w->s->all[i].name, name) == 0)
            return &w->s->all[i];
    return NULL;
}

/* Who could take over from `name`. */
static unsigned takers(const struct watcher *w, const char *name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->s->count; i++)
        n += w->s->all[i].presence == TSP_ALIVE && w->s->all[i].mark == TSP_MARK_NONE &&
             strcmp(w->s->all[i].name, name) != 0;
    return n;
}

static bool seen(struct watcher *w, struct kl_err *err)
{
    while (!look(w))
        if (!time_left(w)) {
            if (w->c->bus->healthy(w->c->bus, err))
                kl_fail(err, KL_EAGAIN, "the keys were not read in time: try again");
            return false;
        }
    return true;
}

/* ---- drain ---- */

/* Until none of them is in the table. */
static int wait_for_empty(struct watcher *w, const char *verb, const char *const *names, unsigned count)
{
    struct kl_err err;
    unsigned      left = 0;

    do {
        const char *last = NULL;

        look(w);
        left = 0;
        for (unsigned i = 0; i < count; i++) {
            const struct dm_standing *one = of(w, names[i]);

            if (one == NULL || one->members == 0)
                continue;
            left += one->members;
            last = names[i];
        }
        if (left == 0 && w->s->complete) {
            for (unsigned i = 0; i < count; i++)
                printf("%s: others have what it had\n", names[i]);
            return 0;
        }
        if (last != NULL && w->s->complete && takers(w, last) == 0) {
            kl_fail(&err, KL_EINVAL, "no other ingestor is alive and stays: nobody could take what %s has", last);
            return cluster_fail(verb, &err);
        }
    } while (time_left(w));
    kl_fail(&err, KL_ETIMEOUT, "time is over, and %u members of partitions are still to be moved; the marks stay, and so "
            "it goes on", left);
    return cluster_fail(verb, &err);
}

int cluster_drain(struct cluster *c)
{
    struct watcher w = watch(c);
    struct kl_err  err;

    if (!seen(&w, &err))
        return unwatch(&w, cluster_fail("drain", &err));
    for (unsigned i = 0; i < c->name_count; i++) {
        if (of(&w, c->names[i]) == NULL) {
            kl_fail(&err, KL_ENOENT, "there is no ingestor %s; `koalemos cluster status` names them", c->names[i]);
            return unwatch(&w, cluster_fail("drain", &err));
        }
        if (put_mark(c, c->names[i], c->undo ? NULL : "drain", &err) != KL_OK)
            return unwatch(&w, cluster_fail("drain", &err));
    }
    if (c->undo)
        return unwatch(&w, 0);
    return unwatch(&w, wait_for_empty(&w, "drain", c->names, c->name_count));
}

/* ---- remove ---- */

/* Until nothing tells of them any more. */
static int wait_for_end(struct watcher *w)
{
    const struct dm_standing *last = NULL;
    struct kl_err             err;

    do {
        if (!look(w))
            continue;
        last = NULL;
        for (unsigned i = 0; i < w->c->name_count; i++) {
            const struct dm_standing *one = of(w, w->c->names[i]);

            /* It is a member still, or the key is there: of two the one that somebody has to stop is told. */
            if (one != NULL && (last == NULL || one->runs))
                last = one;
        }
        if (last == NULL) {
            for (unsigned i = 0; i < w->c->name_count; i++)
                printf("%s: it is removed, and its keys are deleted\n", w->c->names[i]);
            return 0;
        }
        if (last->members > 0 && takers(w, last->name) == 0) {
            kl_fail(&err, KL_EINVAL, "no other ingestor is alive and stays: nobody could take what %s has", last->name);
            return cluster_fail("remove", &err);
        }
    } while (time_left(w));
    if (last == NULL)
        kl_fail(&err, KL_ETIMEOUT, "time is over, and the keys were not read; the mark stays, and so it goes on");
    else if (last->runs)
        kl_fail(&err, KL_ETIMEOUT, "%s is removed, and still runs: stop it, and its keys are deleted; until then it does "
                "nothing", last->name);
    else
        kl_fail(&err, KL_ETIMEOUT, "time is over, and the keys of %s are there still; the mark stays, and so a doorman "
                "deletes them", last->name);
    return cluster_fail("remove", &err);
}

int cluster_remove(struct cluster *c)
{
    struct watcher w = watch(c);
    struct kl_err  err;

    if (!seen(&w, &err))
        return unwatch(&w, cluster_fail("remove", &err));
    for (unsigned i = 0; i < c->name_count; i++) {
        /* Who is removed may have no key any more. */
        if (of(&w, c->names[i]) == NULL && !c->undo) {
            kl_fail(&err, KL_ENOENT, "there is no ingestor %s; `koalemos cluster status` names them", c->names[i]);
            return unwatch(&w, cluster_fail("remove", &err));
        }
        if (put_mark(c, c->names[i], c->undo ? NULL : "removed", &err) != KL_OK)
            return unwatch(&w, cluster_fail("remove", &err));
    }
    return unwatch(&w, c->undo ? 0 : wait_for_end(&w));
}

/* ---- keep ---- */

static bool is_named(const struct cluster *c, const char *name)
{
    for (unsigned i = 0; i < c->name_count; i++)
        if (strcmp(c->names[i], name) == 0)
            return true;
    return false;
}

int cluster_keep(struct cluster *c)
{
    struct watcher w = watch(c);
    const char    *goes[TSP_NODES_MAX];
    char          *copies = NULL;
    unsigned       count = 0;
    struct kl_err  err;
    int            code = 0;

    if (!seen(&w, &err))
        return unwatch(&w, cluster_fail("keep", &err));
    copies = kl_new((size_t)TSP_NODES_MAX * (TSP_NAME_MAX + 1));
    for (unsigned i = 0; i < w.s->count && code == 0; i++) {
        const struct dm_standing *one = &w.s->all[i];
        char                     *name = copies + (size_t)count * (TSP_NAME_MAX + 1);

        if (strncmp(one->name, c->prefix, strlen(c->prefix)) != 0)
            continue;
        if (is_named(c, one->name)) {
            if (one->mark == TSP_MARK_DRAIN && put_mark(c, one->name, NULL, &err) != KL_OK)
                code = cluster_fail("keep", &err);
            continue;
        }
        if (put_mark(c, one->name, "drain", &err) != KL_OK)
            code = cluster_fail("keep", &err);
        memcpy(name, one->name, strlen(one->name) + 1);
        goes[count++] = name;
    }
    if (code == 0 && count > 0)
        code = wait_for_empty(&w, "keep", goes, count);
    if (code == 0 && count == 0)
        printf("nobody has to go\n");
    free(copies);
    return unwatch(&w, code);
}

/* ---- leave ---- */

/* What is still missed, or 0 and why it may go. */
static unsigned missed(const struct watcher *w, const char *name, const char **why)
{
    const struct dm_standing *me = of(w, name);

    *why = "";
    if (me == NULL || me->members == 0) {
        *why = "others have what it had";
        return 0;
    }
    if (me->mark == TSP_MARK_REMOVED) {
        *why = "it was removed from the cell";
        return 0;
    }
    if (me->mark == TSP_MARK_NONE)                     /* our own mark was not seen yet */
        return me->members;
    if (takers(w, name) == 0) {
        *why = "nobody stays who could take over; the log and the object storage have what it has";
        return 0;
    }
    if (me->mark == TSP_MARK_LEAVING && me->alone == 0)
        *why = "each of its partitions is had by another one, who has caught up";
    return me->mark == TSP_MARK_LEAVING ? me->alone : me->members;
}

int cluster_leave(struct cluster *c)
{
    const char    *name = c->name_count > 0 ? c->names[0] : kl_config_text(c->app->config, "ingestor.name");
    struct watcher w = watch(c);
    int64_t        half_ns = w.until_ns - c->wait_ms * 1000000 / 2;
    struct kl_err  err;
    unsigned       left = 0;
    const char    *why = "";

    w.deaf_ms = DEAF_MS;                               /* a whole cell that ends takes NATS away as well */
    if (!seen(&w, &err) || (of(&w, name) != NULL && of(&w, name)->mark == TSP_MARK_NONE &&
                            put_mark(c, name, TSP_MARK_LEAVES, &err) != KL_OK))
        return unwatch(&w, cluster_fail("leave", &err));
    do {
        if (look(&w)) {
            left = missed(&w, name, &why);
            if (left == 0) {
                printf("%s: %s\n", name, why);
                return unwatch(&w, 0);
            }
            if (of(&w, name)->mark == TSP_MARK_LEAVING && kl_env_mono_ns(c->app->env) >= half_ns &&
                put_mark(c, name, TSP_MARK_LEAVES_DRAINED, &err) != KL_OK)
                return unwatch(&w, cluster_fail("leave", &err));
        }
    } while (time_left(&w));
    if (c->bus->healthy(c->bus, &err))
        kl_fail(&err, KL_ETIMEOUT, "time is over, and %u partitions of %s are had by nobody else as yet; the log and the "
                "object storage have what it has", left, name);
    return unwatch(&w, cluster_fail("leave", &err));
}
