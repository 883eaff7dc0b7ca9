#ifndef TEST_BUS_WORLD_H
#define TEST_BUS_WORLD_H
/*
 * The worlds that the bus is tested in, and calls that wait. A world is an env, a bus and one
 * loop for the test's callbacks: the real env with a local log in a folder, the simulated env with
 * one on a simulated disk, or the real env with a nats-server of the test's own.
 */
#include "libkoal/bus/bus.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum world_kind { REAL_LOCAL, SIM_LOCAL, NATS, WORLDS };
enum { PARTITIONS = 3, SERVERS_MAX = 3, WAIT_MS = 30000 };

struct world {
    enum world_kind kind;
    struct kl_env *env;
    struct kl_env_sim *sim;
    struct kl_env_disk_sim *disk;
    struct kl_env_dir *dir;
    struct kl_env_loop *loop;
    struct kl_bus *bus;
    struct kl_bus_local_options options;
    struct kl_bus_nats_options nats;
    char path[64], url[128];
    int ports[SERVERS_MAX], routes[SERVERS_MAX], server_count;
    pid_t servers[SERVERS_MAX];
};
static struct world w;
static struct kl_err err;

/* Real: until `*flag` reaches `least`. Simulated: steps until then. */
static bool wait_ms(_Atomic unsigned *flag, unsigned least, int64_t ms)
{
    if (w.kind == SIM_LOCAL) {
        int64_t until = kl_env_mono_ns(w.env) + ms * 1000000;

        while (atomic_load(flag) < least)
            if (!kl_env_sim_step(w.sim, until))
                return false;
        return true;
    }
    for (int64_t i = 0; atomic_load(flag) < least; i++) {
        if (i > ms * 2)
            return false;
        usleep(500);
    }
    return true;
}

static void wait_for(_Atomic unsigned *flag, unsigned least)
{
    bool came = wait_ms(flag, least, WAIT_MS);

    ck_assert_msg(came, "waited in vain: %u of %u", atomic_load(flag), least);
}

static void settle(int64_t ms)
{
    if (w.kind == SIM_LOCAL)
        kl_env_sim_run(w.sim, ms);
    else
        usleep((useconds_t)ms * 1000);
}

struct call { struct kl_env_task task; void (*fn)(void *arg); void *arg; _Atomic unsigned done; };
static void call_run(struct kl_env_task *task)
{
    struct call *c = kl_container_of(task, struct call, task);

    c->fn(c->arg);
    atomic_fetch_add(&c->done, 1);
}

/* Runs fn(arg) on the test's loop, and waits. */
static void on_loop(void (*fn)(void *), void *arg)
{
    struct call c = { .task.run = call_run, .fn = fn, .arg = arg };

    w.env->sched->post(w.loop, &c.task);
    wait_for(&c.done, 1);
}

/* ---- a nats-server ---- */

/* A port nobody listens on, never twice. From below the range that the system gives to whoever connects,
 * or a connection of another test could sit on it before the server does. */
static int free_port(void)
{
    enum { FIRST = 12000, LAST = 32000 };
    static unsigned turn;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    if (turn == 0)
        turn = (unsigned)getpid() * 37;
    for (int tries = 0; tries < LAST - FIRST; tries++) {
        int  port = FIRST + (int)(turn++ % (LAST - FIRST)), fd = socket(AF_INET, SOCK_STREAM, 0);
        bool got;

        a.sin_port = htons((uint16_t)port);
        got = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
        close(fd);
        if (got)
            return port;
    }
    ck_abort_msg("no free port on this machine");
}

static bool listens(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port) };
    int  fd = socket(AF_INET, SOCK_STREAM, 0);
    bool yes = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;

    close(fd);
    return yes;
}

/* On the PATH, or where Debian installs it, which a user's PATH leaves out; NULL without. */
static const char *server_program(void)
{
    static char at[512];
    const char *path = getenv("PATH");
    char        folders[4096], *rest = folders, *folder;

    if (snprintf(folders, sizeof folders, "/usr/sbin:%s", path != NULL ? path : "") < 0)
        return NULL;
    while ((folder = strsep(&rest, ":")) != NULL)
        if (folder[0] == '/' &&
            snprintf(at, sizeof at, "%s/nats-server", folder) < (int)sizeof at &&
            access(at, X_OK) == 0)
            return at;
    return NULL;
}

/* One of a cluster when there are several. */
static void server_start_one(int i)
{
    char conf[96];
    FILE *f;

    snprintf(conf, sizeof conf, "%s/nats-%d.conf", w.path, i);
    f = fopen(conf, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "server_name: s%d\nhost: 127.0.0.1\nport: %d\n"
            "jetstream { store_dir: \"%s/js%d\", max_file_store: 1GB }\n", i, w.ports[i], w.path,
            i);
    if (w.server_count > 1) {
        fprintf(f, "cluster { name: c, host: 127.0.0.1, port: %d, routes: [", w.routes[i]);
        for (int k = 0; k < w.server_count; k++)
            fprintf(f, "%s nats://127.0.0.1:%d", k > 0 ? "," : "", w.routes[k]);
        fprintf(f, " ] }\n");
    }
    fclose(f);
    w.servers[i] = fork();
    if (w.servers[i] == 0) {
        int null = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);              /* a test that fails leaves none behind */
        dup2(null, 1);
        dup2(null, 2);
        execl(server_program(), "nats-server", "-c", conf, (char *)NULL);
        _exit(127);
    }
    for (int tries = 0; !listens(w.ports[i]); tries++) {
        ck_assert_msg(tries < 300, "nats-server does not listen on port %d", w.ports[i]);
        usleep(50000);
    }
}

/* Stands still when this returns: a signal alone takes effect some time later. */
static void server_halt(void)
{
    int status;

    ck_assert_int_eq(kill(w.servers[0], SIGSTOP), 0);
    ck_assert_int_eq(waitpid(w.servers[0], &status, WUNTRACED), w.servers[0]);
    ck_assert(WIFSTOPPED(status));
}

static void server_kill_one(int i)
{
    if (w.servers[i] <= 0)
        return;
    kill(w.servers[i], SIGKILL);
    waitpid(w.servers[i], NULL, 0);
    w.servers[i] = 0;
}

static void server_start(void)
{
    for (int i = 0; i < w.server_count; i++)
        server_start_one(i);
}

static void server_kill(void)
{
    for (int i = 0; i < w.server_count; i++)
        server_kill_one(i);
}

/* ---- opening and closing ---- */

static void bus_open(void)
{
    enum kl_code code = w.kind == NATS ? kl_bus_nats_open(w.env, &w.nats, &w.bus, &err)
                                       : kl_bus_local_open(w.env, w.dir, &w.options, &w.bus, &err);

    ck_assert_msg(code == KL_OK, "%s", err.text);
    w.loop = w.env->sched->loop_new(w.env->sched, "test", 1000);
}

static void bus_close(void)
{
    if (w.bus == NULL)
        return;
    w.bus->close(w.bus);
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.bus = NULL;
    w.loop = NULL;
}

static void bus_reopen(void)
{
    bus_close();
    bus_open();
}

static void world_open(enum world_kind kind)
{
    w = (struct world){ .kind = kind, .options = { .partitions = PARTITIONS } };
    err = (struct kl_err){ 0 };
    if (kind == SIM_LOCAL) {
        w.sim = kl_env_sim_new(1);
        w.env = kl_env_sim_env(w.sim);
        w.disk = kl_env_disk_sim_new();
        w.dir = kl_env_disk_sim_root(w.disk);
        return;
    }
    strcpy(w.path, "/tmp/bus-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(w.path));
    w.env = kl_env_real_new(2);
    if (kind == REAL_LOCAL) {
        ck_assert_int_eq(kl_env_dir_real_open(w.path, false, &w.dir, &err), KL_OK);
        return;
    }
    w.server_count = 1;
    w.ports[0] = free_port();
    snprintf(w.url, sizeof w.url, "nats://127.0.0.1:%d", w.ports[0]);
    w.nats = (struct kl_bus_nats_options){ .url = w.url, .cell = "t", .partitions = PARTITIONS,
                                           .log_replicas = 1, .stream_bytes_max = 64 << 20,
                                           .create = true, .op_timeout_ms = 5000 };
}

static void world_close(void)
{
    char command[96];

    bus_close();
    server_kill();
    if (w.dir != NULL)
        w.dir->leave(w.dir);
    kl_env_sim_free(w.sim);
    kl_env_disk_sim_free(w.disk);
    if (w.sim == NULL && w.env != NULL)
        kl_env_real_free(w.env);
    if (w.path[0] != '\0') {
        snprintf(command, sizeof command, "rm -rf %s", w.path);
        ck_assert_int_eq(system(command), 0);
    }
    w = (struct world){ 0 };
}

/* ---- operations that wait ---- */

#define WAITING(type)                                                              \
    struct type##_wait { struct type op; _Atomic unsigned done; };                 \
    static void type##_over(struct type *op)                                       \
    {                                                                              \
        atomic_fetch_add(&kl_container_of(op, struct type##_wait, op)->done, 1);   \
    }
WAITING(kl_bus_append)
WAITING(kl_bus_info)
WAITING(kl_bus_purge)
WAITING(kl_bus_ask)
WAITING(kl_bus_kv)

static struct kl_bus_append append_bytes(uint32_t partition, struct kl_span bytes, const char *id)
{
    struct kl_bus_append_wait a = { .op = { .partition = partition, .record = bytes,
                                            .loop = w.loop, .done = kl_bus_append_over } };

    snprintf(a.op.id, sizeof a.op.id, "%s", id);
    w.bus->append(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

static struct kl_bus_append append(uint32_t partition, const char *text, const char *id)
{
    return append_bytes(partition, kl_span_str(text), id);
}

static uint64_t appended(uint32_t partition, const char *text)
{
    struct kl_bus_append a = append(partition, text, "");

    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    return a.seq;
}

static struct kl_bus_info info(uint32_t partition)
{
    struct kl_bus_info_wait a = { .op = { .partition = partition, .loop = w.loop,
                                          .done = kl_bus_info_over } };

    uint64_t before = 0, after = 0;
    bool     known = w.bus->end != NULL && w.bus->end(w.bus, partition, &before);

    w.bus->info(w.bus, &a.op);
    wait_for(&a.done, 1);
    if (known && a.op.code == KL_OK && w.bus->end(w.bus, partition, &after))
        ck_assert(before <= a.op.last_seq && a.op.last_seq <= after);
    return a.op;
}

static void purge(uint32_t partition, uint64_t up_to)
{
    struct kl_bus_purge_wait a = { .op = { .partition = partition, .up_to = up_to, .loop = w.loop,
                                           .done = kl_bus_purge_over } };

    w.bus->purge(w.bus, &a.op);
    wait_for(&a.done, 1);
    ck_assert_msg(a.op.code == KL_OK, "%s", a.op.err.text);
}

static struct kl_bus_ask ask(const char *subject, const char *text, int64_t timeout_ms)
{
    struct kl_bus_ask_wait a = { .op = { .question = kl_span_str(text), .timeout_ms = timeout_ms,
                                         .loop = w.loop, .done = kl_bus_ask_over } };

    snprintf(a.op.subject, sizeof a.op.subject, "%s", subject);
    w.bus->ask(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

static struct kl_bus_kv kv(enum kl_bus_kv_kind kind, const char *key, const char *value,
                           uint64_t expect)
{
    struct kl_bus_kv_wait a = { .op = { .kind = kind, .expect = expect, .loop = w.loop,
                                        .done = kl_bus_kv_over,
                                        .value = kl_span_str(value != NULL ? value : "") } };

    snprintf(a.op.key, sizeof a.op.key, "%s", key);
    w.bus->kv(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

/* ---- a reader that keeps what it is given ---- */

enum { SEEN_MAX = 20000 };
struct seen { uint64_t seq, incarnation; size_t size; bool repeat; char text[64]; };
struct tape {
    struct kl_bus_reader reader;
    struct seen *at;
    _Atomic unsigned count, caught_up, broken;
    _Atomic uint64_t caught_up_at, end_at;
    enum kl_code code;
    uint64_t incarnation, first_seq;
    struct kl_err err;
};

static void tape_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct tape *t = r->ctx;
    unsigned n = atomic_load(&t->count);
    struct seen *s = &t->at[n];

    ck_assert_uint_lt(n, SEEN_MAX);
    s->seq = rec->seq;
    s->incarnation = rec->incarnation;
    s->repeat = rec->repeat;
    s->size = rec->bytes.size;
    snprintf(s->text, sizeof s->text, "%.*s", (int)(rec->bytes.size < 63 ? rec->bytes.size : 63),
             (const char *)rec->bytes.at);
    atomic_fetch_add(&t->count, 1);
}

static void tape_caught_up(struct kl_bus_reader *r, uint64_t last_seq)
{
    struct tape *t = r->ctx;

    atomic_store(&t->caught_up_at, last_seq);
    atomic_fetch_add(&t->caught_up, 1);
}

static void tape_ended(struct kl_bus_reader *r, uint64_t last_seq, int64_t asked_ns)
{
    struct tape *t = r->ctx;

    ck_assert_int_le(asked_ns, kl_env_mono_ns(w.env));
    atomic_store(&t->end_at, last_seq);
}

static void tape_broken(struct kl_bus_reader *r, enum kl_code code, uint64_t incarnation,
                        uint64_t first_seq, const struct kl_err *e)
{
    struct tape *t = r->ctx;

    t->code = code;
    t->incarnation = incarnation;
    t->first_seq = first_seq;
    t->err = *e;
    atomic_fetch_add(&t->broken, 1);
}

static void tape_begin(void *arg)
{
    struct tape *t = arg;

    w.bus->read_open(w.bus, &t->reader);
}

static void tape_end(void *arg)
{
    struct tape *t = arg;

    w.bus->read_close(w.bus, &t->reader);
}

static void tape_open(struct tape *t, uint32_t partition, uint64_t from_seq)
{
    memset(t, 0, sizeof *t);
    t->at = calloc(SEEN_MAX, sizeof *t->at);
    t->reader = (struct kl_bus_reader){ .partition = partition, .from_seq = from_seq,
                                        .loop = w.loop, .record = tape_record,
                                        .caught_up = tape_caught_up, .broken = tape_broken,
                                        .end = tape_ended, .ctx = t };
    on_loop(tape_begin, t);
}

static void tape_close(struct tape *t)
{
    on_loop(tape_end, t);
    free(t->at);
    t->at = NULL;
}
#endif
