/*
 * `koalemos cluster repair PARTITION NODE`: that ingestor makes its state of the partition anew, from the catalogue
 * and the log. The wish is a key; this waits until the ingestor has begun, or time is over.
 */
#include "koalemos/cluster_priv.h"

#include "libtsproto/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_EVERY_MS = 300 };

struct repair {
    struct dm_repair   wish;
    struct cluster    *c;
    struct kl_bus_kv   kv;
    struct kl_env_task look;
};

static void wished(struct dm_repair *r) { kl_app_wait_tell(kl_container_of(r, struct repair, wish)->c->wait); }

static void looked(struct kl_bus_kv *op)
{
    struct repair *r = kl_container_of(op, struct repair, kv);

    free(op->got);
    kl_app_wait_tell(r->c->wait);
}

static void look(struct kl_env_task *task)
{
    struct repair *r = kl_container_of(task, struct repair, look);

    r->c->bus->kv(r->c->bus, &r->kv);
}

/* Is the wish still there? A KV that is away says neither, and is asked again. */
static bool is_gone(struct repair *r)
{
    struct cluster *c = r->c;

    r->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = c->loop, .done = looked };
    tsp_repair_key(r->kv.key, sizeof r->kv.key, r->wish.partition, r->wish.node);
    r->look = (struct kl_env_task){ .run = look };
    c->wait = kl_app_wait_new();
    c->app->env->sched->post(c->loop, &r->look);
    kl_app_wait_for(c->wait, INT64_C(86400000));       /* the bus gives it a bound of its own */
    kl_app_wait_free(c->wait);
    return r->kv.code == KL_ENOENT;
}

static bool read_partition(const char *text, uint32_t *partition)
{
    char         *end;
    unsigned long n = strtoul(text, &end, 10);

    *partition = (uint32_t)n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n < KL_BUS_PARTITIONS_MAX;
}

int cluster_repair(struct cluster *c)
{
    struct repair          r = { .c = c, .wish.done = wished };
    struct dm_coordinator *who;
    struct kl_app_wait    *never;
    struct kl_err          err = { 0 };
    int64_t                until_ns = kl_env_mono_ns(c->app->env) + c->wait_ms * 1000000;
    bool                   gone = false;

    if (!read_partition(c->names[0], &r.wish.partition) || strlen(c->names[1]) >= sizeof r.wish.node) {
        kl_fail(&err, KL_EINVAL, "say which partition, by its number, and which ingestor: repair PARTITION NODE");
        c->bus->close(c->bus);
        return cluster_fail("repair", &err);
    }
    snprintf(r.wish.node, sizeof r.wish.node, "%s", c->names[1]);
    who = cluster_looker(c);
    c->wait = kl_app_wait_new();
    dm_coordinator_repair(who, &r.wish);
    kl_app_wait_for(c->wait, INT64_C(86400000));
    kl_app_wait_free(c->wait);
    never = kl_app_wait_new();
    while (r.wish.code == KL_OK && !(gone = is_gone(&r)) && kl_env_mono_ns(c->app->env) < until_ns)
        kl_app_wait_for(never, LOOK_EVERY_MS);
    kl_app_wait_free(never);
    c->bus->close(c->bus);
    dm_coordinator_free(who);
    if (r.wish.code != KL_OK)
        return cluster_fail("repair", &r.wish.err);
    if (!gone) {
        kl_fail(&err, KL_ETIMEOUT, "time is over, and %s has not begun: it waits until another member of partition %"
                PRIu32 " is its owner, alive and caught up; the wish stays", r.wish.node, r.wish.partition);
        return cluster_fail("repair", &err);
    }
    printf("%s makes partition %" PRIu32 " anew; `koalemos cluster status` tells when it has caught up\n", r.wish.node,
           r.wish.partition);
    fflush(stdout);
    return 0;
}
