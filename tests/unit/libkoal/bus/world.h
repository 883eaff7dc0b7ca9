#ifndef TEST_BUS_WORLD_H
#define TEST_BUS_WORLD_H
/*
 * The worlds that the bus is tested in. A world is an env, a bus and one loop for the test's
 * callbacks: the real env with a local log in a folder, the simulated env with one on a simulated
 * disk, or the real env with a nats-server of the test's own.
 */
#include "libkoal/bus/bus.h"
#include "tests/suite.h"

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
static inline bool wait_ms(_Atomic unsigned *flag, unsigned least, int64_t ms)
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

static inline void wait_for(_Atomic unsigned *flag, unsigned least)
{
    bool came = wait_ms(flag, least, WAIT_MS);

    ck_assert_msg(came, "waited in vain: %u of %u", atomic_load(flag), least);
}

static inline void settle(int64_t ms)
{
    if (w.kind == SIM_LOCAL)
        kl_env_sim_run(w.sim, ms);
    else
        usleep((useconds_t)ms * 1000);
}

struct call { struct kl_env_task task; void (*fn)(void *arg); void *arg; _Atomic unsigned done; };
static inline void call_run(struct kl_env_task *task)
{
    struct call *c = kl_container_of(task, struct call, task);

    c->fn(c->arg);
    atomic_fetch_add(&c->done, 1);
}

/* Runs fn(arg) on the test's loop, and waits. */
static inline void on_loop(void (*fn)(void *), void *arg)
{
    struct call c = { .task.run = call_run, .fn = fn, .arg = arg };

    w.env->sched->post(w.loop, &c.task);
    wait_for(&c.done, 1);
}

/* ---- a nats-server ---- */

/* A port nobody listens on, never twice. From below the range that the system gives to whoever connects,
 * or a connection of another test could sit on it before the server does. */
static inline int free_port(void)
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

static inline bool listens(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port) };
    int  fd = socket(AF_INET, SOCK_STREAM, 0);
    bool yes = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;

    close(fd);
    return yes;
}

/* On the PATH, or where Debian installs it, which a user's PATH leaves out; NULL without. */
static inline const char *server_program(void)
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
static inline void server_start_one(int i)
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
static inline void server_halt(void)
{
    int status;

    ck_assert_int_eq(kill(w.servers[0], SIGSTOP), 0);
    ck_assert_int_eq(waitpid(w.servers[0], &status, WUNTRACED), w.servers[0]);
    ck_assert(WIFSTOPPED(status));
}

static inline void server_kill_one(int i)
{
    if (w.servers[i] <= 0)
        return;
    kill(w.servers[i], SIGKILL);
    waitpid(w.servers[i], NULL, 0);
    w.servers[i] = 0;
}

static inline void server_start(void)
{
    for (int i = 0; i < w.server_count; i++)
        server_start_one(i);
}

static inline void server_kill(void)
{
    for (int i = 0; i < w.server_count; i++)
        server_kill_one(i);
}

/* ---- opening and closing ---- */

static inline void bus_open(void)
{
    enum kl_code code = w.kind == NATS ? kl_bus_nats_open(w.env, &w.nats, &w.bus, &err)
                                       : kl_bus_local_open(w.env, w.dir, &w.options, &w.bus, &err);

    ck_assert_msg(code == KL_OK, "%s", err.text);
    w.loop = w.env->sched->loop_new(w.env->sched, "test", 1000);
}

static inline void bus_close(void)
{
    if (w.bus == NULL)
        return;
    w.bus->close(w.bus);
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.bus = NULL;
    w.loop = NULL;
}

static inline void bus_reopen(void)
{
    bus_close();
    bus_open();
}

static inline void world_open(enum world_kind kind)
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

static inline void world_close(void)
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

/* A fixture does not know the loop's index: each test says which world it is in. */
static inline void world_unopened(void) { }

/* A world over NATS, without its server; false where there is none to test with, and says so. */
static inline bool has_server(void)
{
    world_open(NATS);
    if (server_program() != NULL)
        return true;
    fprintf(stderr, "SKIPPED: no nats-server on this machine; the bus over NATS is NOT tested\n");
    return false;
}

/* A world and its bus, opened; false as above. */
static inline bool enter_world(int kind)
{
    if (kind != NATS)
        world_open((enum world_kind)kind);
    else if (has_server())
        server_start();
    else
        return false;
    bus_open();
    return true;
}
#define ENTER(kind) do { if (!enter_world(kind)) return; } while (0)
#endif
