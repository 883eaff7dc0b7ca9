/*
 * `koalemos cluster init` makes what the log and the keys of a cell need in NATS; `koalemos cluster status`
 * prints who is in the cell and who has what, read from the keys alone: it works while every doorman is
 * down. `koalemos cluster split` doubles the number of partitions. cluster_drain.c has what ingestors do that go,
 * cluster_repair.c has them make anew what they hold.
 */
#include "koalemos/cluster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "koalemos/cluster_priv.h"
#include "libkoal/bus/nats_servers.h"
#include "libkoal/bus/options.h"

static const char usage[] =
    "usage: koalemos cluster init|split [flags]\n"
    "       koalemos cluster status [--wait 4s] [flags]\n"
    "       koalemos cluster drain NODE... [--wait 10m] [--undo] [flags]\n"
    "       koalemos cluster remove NODE... [--wait 10m] [--undo] [flags]\n"
    "       koalemos cluster leave [NODE] [--wait 10m] [flags]\n"
    "       koalemos cluster keep --prefix TEXT --names NODE,... [--wait 10m] [flags]\n"
    "       koalemos cluster repair PARTITION NODE [--wait 10m] [flags]\n"
    "\n"
    "  init      makes the streams of the log and the bucket of keys in NATS, with log.replicas and\n"
    "            log.bytes_max; what is there already is left as it is\n"
    "  status    who is in the cell, who has which partition, and how far behind; --wait: how long NATS may be out\n"
    "            of reach, and not tell the keys\n"
    "  split     twice as many partitions, once every service was restarted with that number\n"
    "  drain     an ingestor's partitions go to others, and it takes none until --undo; ends when it has none\n"
    "  remove    for an ingestor that will not come back: its partitions go to others at once, and its keys are\n"
    "            deleted; ends when they are, so once it was stopped. --undo: one of that name may come again\n"
    "  leave     what an ingestor (ingestor.name) is to do before it is stopped: ends when each of its partitions\n"
    "            is had by another one that has caught up; drains it where that does not come by itself. It counts\n"
    "            again once it was started again\n"
    "  repair    an ingestor forgets what it holds of a partition and reads the catalogue and the log anew; its\n"
    "            snapshot is kept aside. Not while nobody else has the partition; an owner hands over first\n"
    "  keep      drains every ingestor whose name begins with TEXT and is not one of --names; those take\n"
    "            partitions again\n"
    "\n"
    "Flags are those of every service, as --nats.url and --cell; `koalemos cluster status --help` lists them.\n"
    "Exit status: 0; 1 when NATS was not reached, something could not be made, or time was over; 2 wrong usage.\n";

enum { VERSIONS_WAIT_MS = 2000, WAIT_MS = 600000, STATUS_WAIT_MS = 4000, LOOK_EVERY_MS = 50 };

int cluster_fail(const char *what, const struct kl_err *err)
{
    fprintf(stderr, "koalemos cluster: %s: %s\n", what, err->text);
    return 1;
}

/* ---- the servers ---- */

/* Of one server nobody waits for another to come back. */
static void warn_of_old_servers(struct cluster *c)
{
    struct kl_bus_server all[KL_BUS_SERVERS_MAX];
    struct kl_err        err;
    unsigned             count;

    if (kl_config_int(c->app->config, "log.replicas") == 1 || !c->bus->healthy(c->bus, &err))
        return;
    count = kl_bus_nats_servers(kl_config_text(c->app->config, "nats.url"), VERSIONS_WAIT_MS, all);
    for (unsigned i = 0; i < count; i++)
        if (kl_bus_version_before(all[i].version, 2, 10))
            fprintf(stderr, "koalemos cluster: warning: the nats-server at %s is %s: before 2.10 writers may wait for half a "
                    "minute when one of the servers comes back, and no power cut of all of them is survived; use 2.12.7 or "
                    "newer\n", all[i].address, all[i].version);
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

static int init(struct cluster *c)
{
    uint32_t    partitions = (uint32_t)kl_config_int(c->app->config, "partitions");
    struct init i = { .c = c, .begin.run = init_begin, .count = partitions };

    c->wait = kl_app_wait_new();
    c->app->env->sched->post(c->loop, &i.begin);
    kl_app_wait_for(c->wait, INT64_C(86400000));       /* each step has a bound of its own */
    c->bus->close(c->bus);
    kl_app_wait_free(c->wait);
    if (i.err.code != KL_OK)
        return cluster_fail("init", &i.err);
    printf("%" PRIu32 " streams and the bucket of keys are there\n", partitions);
    return 0;
}

/* ---- status ---- */

struct status { struct dm_cluster_text text; struct kl_app_wait *wait; };

static void status_done(struct dm_cluster_text *t)
{
    kl_app_wait_tell(kl_container_of(t, struct status, text)->wait);
}

struct dm_coordinator *cluster_looker(struct cluster *c)
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
    struct kl_app_wait    *never = kl_app_wait_new();
    int64_t now_ns = kl_env_mono_ns(c->app->env), reach_by_ns = now_ns + c->wait_ms * 1000000;
    int64_t until_ns = now_ns + o.heartbeat_ms * 2500000;
    bool    reached = false;

    while (now_ns < until_ns && (reached || now_ns < reach_by_ns)) {
        struct kl_err err;

        kl_app_wait_for(never, LOOK_EVERY_MS);
        now_ns = kl_env_mono_ns(c->app->env);
        if (reached || !c->bus->healthy(c->bus, &err))
            continue;
        reached = true;
        until_ns = now_ns + o.heartbeat_ms * 2500000;
    }
    kl_app_wait_free(never);
    return who;
}

static bool status_text(struct dm_coordinator *who, struct status *s)
{
    kl_buf_deinit(&s->text.out);
    s->text = (struct dm_cluster_text){ .done = status_done };
    s->wait = kl_app_wait_new();
    dm_coordinator_text(who, &s->text);
    kl_app_wait_for(s->wait, INT64_C(86400000));       /* a loop of this process answers it */
    kl_app_wait_free(s->wait);
    return s->text.complete;
}

static int status(struct cluster *c)
{
    int64_t                until_ns = kl_env_mono_ns(c->app->env) + c->wait_ms * 1000000;
    struct dm_coordinator *who = cluster_looker(c);
    struct kl_app_wait    *never = kl_app_wait_new();
    struct status          s = { 0 };
    int                    code = 0;

    while (!status_text(who, &s) && kl_env_mono_ns(c->app->env) < until_ns)
        kl_app_wait_for(never, LOOK_EVERY_MS);
    if (s.text.complete) {
        fwrite(s.text.out.at, 1, s.text.out.size, stdout);
    } else {
        struct kl_err err;

        if (c->bus->healthy(c->bus, &err))
            kl_fail(&err, KL_EAGAIN, "NATS is there, and did not tell all keys in time: try again, with a longer --wait");
        code = cluster_fail("status", &err);
    }
    c->bus->close(c->bus);
    dm_coordinator_free(who);
    kl_buf_deinit(&s.text.out);
    kl_app_wait_free(never);
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
        return cluster_fail("split", &err);
    }
    who = cluster_looker(c);
    if (!c->bus->healthy(c->bus, &s.split.err)) {
        c->bus->close(c->bus);
        dm_coordinator_free(who);
        return cluster_fail("split", &s.split.err);
    }
    s.wait = kl_app_wait_new();
    dm_coordinator_split(who, &s.split);
    kl_app_wait_for(s.wait, INT64_C(86400000));        /* the bus gives the put a bound of its own */
    c->bus->close(c->bus);
    dm_coordinator_free(who);
    if (s.split.code != KL_OK)
        code = cluster_fail("split", &s.split.err);
    else
        printf("%" PRIu32 " partitions from %" PRId64 " on (milliseconds since 1970)\n", s.split.partitions,
               s.split.valid_from_ms);
    kl_app_wait_free(s.wait);
    return code;
}

/* ---- the words ---- */

static const struct verb {
    const char *name;
    int       (*run)(struct cluster *c);
    unsigned    names_least, names_most;
    bool        takes_time;                            /* --wait */
} verbs[] = {
    { "init", init, 0, 0, false },       { "status", status, 0, 0, true },
    { "split", split, 0, 0, false },     { "drain", cluster_drain, 1, CLUSTER_NAMES_MAX, true },
    { "remove", cluster_remove, 1, CLUSTER_NAMES_MAX, true },
    { "leave", cluster_leave, 0, 1, true }, { "keep", cluster_keep, 0, 0, true },
    { "repair", cluster_repair, 2, 2, true },
};

static int wrong(const char *what, const char *of)
{
    fprintf(stderr, "koalemos cluster: %s%s\n%s", what, of, usage);
    return 2;
}

/* 90s, 5m, 1h. */
static bool read_wait(const char *text, int64_t *ms)
{
    char *end;
    long  n = strtol(text, &end, 10);
    long  unit = strcmp(end, "s") == 0 ? 1000 : strcmp(end, "m") == 0 ? 60000 : strcmp(end, "h") == 0 ? 3600000 : 0;

    *ms = unit == 0 || n < 1 || n > 100000 ? 0 : (int64_t)n * unit;
    return *ms > 0;
}

/* The names in `list`, which is cut into pieces. */
static bool read_names(struct cluster *c, char *list)
{
    char *rest = list;

    for (char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ",")) {
        if (c->name_count == CLUSTER_NAMES_MAX)
            return false;
        if (one[0] != '\0')
            c->names[c->name_count++] = one;
    }
    return true;
}

/* Takes what is ours out of argv; the rest is a service's, behind argv[first]. Exit status, or 0. */
static int read_words(struct cluster *c, const struct verb *v, int *argc, char **argv, int first, char **list)
{
    int kept = first + 1;

    for (int i = first + 1; i < *argc; i++) {
        const struct { const char *flag; bool takes; } ours[] = {
            { "--wait", v->takes_time }, { "--prefix", v->run == cluster_keep }, { "--names", v->run == cluster_keep } };
        const char *value = NULL, *flag = NULL;

        for (size_t k = 0; k < sizeof ours / sizeof ours[0] && flag == NULL; k++) {
            size_t size = strlen(ours[k].flag);

            if (!ours[k].takes || strncmp(argv[i], ours[k].flag, size) != 0 || (argv[i][size] != '=' && argv[i][size] != '\0'))
                continue;
            flag = ours[k].flag;
            value = argv[i][size] == '=' ? argv[i] + size + 1 : i + 1 < *argc ? argv[++i] : NULL;
        }
        if (flag == NULL && (v->run == cluster_drain || v->run == cluster_remove) && strcmp(argv[i], "--undo") == 0) {
            c->undo = true;
        } else if (flag == NULL && argv[i][0] == '-') {
            argv[kept++] = argv[i];
            if (strchr(argv[i], '=') == NULL && i + 1 < *argc && argv[i + 1][0] != '-' && strcmp(argv[i], "--help") != 0)
                argv[kept++] = argv[++i];
        } else if (flag == NULL && c->name_count < v->names_most) {
            c->names[c->name_count++] = argv[i];
        } else if (flag == NULL || value == NULL) {
            return wrong("is not understood: ", argv[i]);
        } else if (strcmp(flag, "--wait") == 0 && !read_wait(value, &c->wait_ms)) {
            return wrong("--wait is a time, as 90s, 5m, 1h: ", value);
        } else if (strcmp(flag, "--prefix") == 0) {
            c->prefix = value;
        } else if (strcmp(flag, "--names") == 0) {
            free(*list);
            *list = kl_strdup(value);
            c->name_count = 0;
            if (!read_names(c, *list))
                return wrong("more names than a cell has room for: ", value);
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    if (c->name_count < v->names_least)
        return wrong(v->run == cluster_repair ? "say which partition, and which ingestor" : "say which ingestor", "");
    if (v->run == cluster_keep && (c->prefix == NULL || c->name_count == 0))
        return wrong("say who shall stay: --prefix and --names", "");
    return 0;
}

int koalemos_cluster(int argc, char **argv, int first)
{
    const char        *name = argc > first ? argv[first] : "";
    const struct verb *v = NULL;
    struct cluster     c = { .wait_ms = WAIT_MS };
    struct kl_bus_nats_options o;
    struct kl_err      err;
    char              *list = NULL;
    bool               help = false;
    int                code;

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(name, verbs[i].name) == 0)
            v = &verbs[i];
    if (v == NULL) {
        fputs(usage, strcmp(name, "--help") == 0 ? stdout : stderr);
        return strcmp(name, "--help") == 0 ? 0 : 2;
    }
    if (v->run == status)
        c.wait_ms = STATUS_WAIT_MS;
    for (int i = first + 1; i < argc; i++)
        help = help || strcmp(argv[i], "--help") == 0;
    code = help ? 0 : read_words(&c, v, &argc, argv, first, &list);
    if (code == 0)
        c.app = kl_app_open("koalemos cluster", argc, argv, first + 1, KL_APP_TOOL, &code);
    if (c.app == NULL) {
        free(list);
        return code;
    }
    kl_bus_nats_options_read(c.app->config, &o);
    o.service = v->run == cluster_leave ? "ingestor" : "koalemos";   /* it has that one's user, in its pod */
    o.log = c.app->log;
    o.create = v->run == init;
    if (kl_bus_nats_open(c.app->env, &o, &c.bus, &err) != KL_OK) {
        code = cluster_fail(name, &err);
    } else {
        c.loop = c.app->env->sched->loop_new(c.app->env->sched, "cluster", 16);
        if (v->run == init || v->run == status)
            warn_of_old_servers(&c);
        code = v->run(&c);                             /* which closes the bus */
        c.app->env->sched->loop_free(c.loop);
        c.bus->free(c.bus);
    }
    kl_app_close(c.app);
    free(list);
    return code;
}
