/*
 * `koalemos cluster init` makes what the log and the keys of a cell need in NATS; `koalemos cluster status`
 * prints who is in the cell and who has what, read from the keys alone: it works while every doorman is
 * down. `koalemos cluster split` doubles the number of partitions.
 */
#include "koalemos/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doorman/coordinator.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/options.h"

static const char usage[] =
    "usage: koalemos cluster init|status|split [flags]\n"
    "\n"
    "  init      makes the streams of the log and the bucket of keys in NATS, with log.replicas and\n"
    "            log.bytes_max; what is there already is left as it is\n"
    "  status    who is in the cell, who has which partition, and how far behind\n"
    "  split     twice as many partitions, once every service was restarted with that number\n"
    "\n"
    "Flags are those of every service, as --nats.url and --cell; `koalemos cluster status --help` lists them.\n"
    "Exit status: 0; 1 when NATS was not reached or something could not be made; 2 wrong usage.\n";

struct cluster {
    struct kl_app      *app;
    struct kl_bus      *bus;
    struct kl_env_loop *loop;
    struct kl_app_wait *wait;
};

static int fail(const char *what, const struct kl_err *err)
{
    fprintf(stderr, "koalemos cluster: %s: %s\n", what, err->text);
    return 1;
}

/* ---- init: one question to each partition's log makes its stream ---- */

struct init {
    struct cluster    *c;
    struct kl_bus_info info;
    struct kl_bus_kv   kv;
    struct kl_env_task begin;
    uint32_t           next, count;
    struct kl_err      err;
};

static void init_next(struct init *i);

static void init_info(struct kl_bus_info *op)
{
    struct init *i = kl_container_of(op, struct init, info);

    if (op->code != KL_OK) {
        i->err = op->err;
        kl_within(&i->err, "partition %" PRIu32, op->partition);
        kl_app_wait_tell(i->c->wait);
        return;
    }
    init_next(i);
}

static void init_key(struct kl_bus_kv *op)
{
    struct init *i = kl_container_of(op, struct init, kv);

    free(op->got);
    if (op->code != KL_OK && op->code != KL_ENOENT) {
        i->err = op->err;
        kl_within(&i->err, "the bucket of keys");
    }
    kl_app_wait_tell(i->c->wait);
}

static void init_next(struct init *i)
{
    if (i->next < i->count) {
        i->info = (struct kl_bus_info){ .partition = i->next++, .loop = i->c->loop,
                                        .done = init_info };
        i->c->bus->info(i->c->bus, &i->info);
        return;
    }
    i->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .key = TSP_PLACEMENT_KEY, .loop = i->c->loop,
                                .done = init_key };
    i->c->bus->kv(i->c->bus, &i->kv);
}

static void init_begin(struct kl_env_task *task)
{
    init_next(kl_container_of(task, struct init, begin));
}

static int init(struct cluster *c, uint32_t partitions)
{
    struct init i = { .c = c, .begin.run = init_begin, .count = partitions };

    c->app->env->sched->post(c->loop, &i.begin);
    kl_app_wait_for(c->wait, INT64_C(86400000));       /* each step has a bound of its own */
    c->bus->close(c->bus);
    if (i.err.code != KL_OK)
        return fail("init", &i.err);
    printf("%" PRIu32 " streams and the bucket of keys are there\n", partitions);
    return 0;
}

/* ---- status ---- */

struct status { struct dm_cluster_text text; struct kl_app_wait *wait; };

static void status_done(struct dm_cluster_text *t)
{
    kl_app_wait_tell(kl_container_of(t, struct status, text)->wait);
}

/* One that only looks. Who lives is seen by a heartbeat that comes: two of them pass. */
static struct dm_coordinator *looker(struct cluster *c)
{
    const struct kl_config       *config = c->app->config;
    struct dm_coordinator_options o = {
        .name = "status", .partitions = (uint32_t)kl_config_int(config, "partitions"), .replicas = 1,
        .heartbeat_ms = kl_config_int(config, "cluster.heartbeat"),
        .silent_ms = kl_config_int(config, "cluster.silent"),
        .gone_ms = kl_config_int(config, "cluster.gone"),
        .split_delay_ms = kl_config_int(config, "placement.spread_delay"), .log = c->app->log,
    };
    struct dm_coordinator *who = dm_coordinator_new(c->app->env, c->bus, &o);

    kl_app_wait_for(c->wait, o.heartbeat_ms * 5 / 2);
    return who;
}

static int status(struct cluster *c)
{
    struct dm_coordinator *who = looker(c);
    struct status          s = { .text.done = status_done, .wait = kl_app_wait_new() };
    int                    code = 0;

    dm_coordinator_text(who, &s.text);
    kl_app_wait_for(s.wait, 60000);
    if (s.text.complete) {
        fwrite(s.text.out.at, 1, s.text.out.size, stdout);
    } else {
        struct kl_err err;

        if (c->bus->healthy(c->bus, &err))
            kl_fail(&err, KL_EAGAIN, "the keys were not read in time: try again");
        code = fail("status", &err);
    }
    c->bus->close(c->bus);
    dm_coordinator_free(who);
    kl_buf_deinit(&s.text.out);
    kl_app_wait_free(s.wait);
    return code;
}

/* ---- split ---- */

struct split { struct dm_split split; struct kl_app_wait *wait; };

static void split_done(struct dm_split *s)
{
    kl_app_wait_tell(kl_container_of(s, struct split, split)->wait);
}

static int split(struct cluster *c)
{
    struct dm_coordinator *who;
    struct split           s = { .split.done = split_done };
    int                    code = 0;

    if (kl_config_text(c->app->config, "placement.static")[0] != '\0') {
        struct kl_err err;

        kl_fail(&err, KL_EINVAL, "placement.static gives the partitions: only a cell whose coordinator gives "
                "them can be split");
        c->bus->close(c->bus);
        return fail("split", &err);
    }
    who = looker(c);
    s.wait = kl_app_wait_new();
    dm_coordinator_split(who, &s.split);
    kl_app_wait_for(s.wait, INT64_C(86400000));        /* the bus gives the put a bound of its own */
    c->bus->close(c->bus);
    dm_coordinator_free(who);
    if (s.split.code != KL_OK)
        code = fail("split", &s.split.err);
    else
        printf("%" PRIu32 " partitions from %" PRId64 " on (milliseconds since 1970)\n", s.split.partitions,
               s.split.valid_from_ms);
    kl_app_wait_free(s.wait);
    return code;
}

int koalemos_cluster(int argc, char **argv, int first)
{
    const char    *verb = argc > first ? argv[first] : "";
    struct cluster c = { 0 };
    struct kl_bus_nats_options o;
    struct kl_err  err;
    int            code;

    if (strcmp(verb, "init") != 0 && strcmp(verb, "status") != 0 && strcmp(verb, "split") != 0) {
        fputs(usage, strcmp(verb, "--help") == 0 ? stdout : stderr);
        return strcmp(verb, "--help") == 0 ? 0 : 2;
    }
    c.app = kl_app_open("koalemos cluster", argc, argv, first + 1, KL_APP_TOOL, &code);
    if (c.app == NULL)
        return code;
    kl_bus_nats_options_read(c.app->config, &o);
    o.service = "koalemos";
    o.log = c.app->log;
    o.create = strcmp(verb, "init") == 0;
    c.wait = kl_app_wait_new();
    if (kl_bus_nats_open(c.app->env, &o, &c.bus, &err) != KL_OK) {
        code = fail(verb, &err);
    } else {
        c.loop = c.app->env->sched->loop_new(c.app->env->sched, "cluster", 16);
        code = o.create ? init(&c, o.partitions)                       /* each closes the bus */
             : strcmp(verb, "split") == 0 ? split(&c) : status(&c);
        c.app->env->sched->loop_free(c.loop);
        c.bus->free(c.bus);
    }
    kl_app_wait_free(c.wait);
    kl_app_close(c.app);
    return code;
}
