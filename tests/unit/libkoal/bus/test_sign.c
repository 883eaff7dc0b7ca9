/* libkoal/bus/bus_nats: a signature that begins with a zero byte, of which the library (libnats 3.4.1) sends nothing, costs one
 * try. By a server of the test's own: which nonce it draws decides the signature. */
#include "libkoal/bus/bus.h"
#include "tests/suite.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Ed25519 signs the same bytes in the same way: this seed's signature of the first begins with a zero byte, one of 256 does. */
#define PUBLIC "UALURPR5GE4CGKSAGZXFGIASV74WRGEOWCHXS6IETNPQFFWCJSNI7UTD"
#define SEED "SUAPSZLFCYOEZT6BWPS5I7SRMKEDS6GS47DISVRORA7MLRW7CKKQ6MRRK4"
#define UNSENDABLE "nonce-366"
#define SENDABLE "nonce-0"
#define SIGNATURE "t5EublCrL89mZ5ga7wMd4JIWAokUIweYP_P87WtK99E9gFTqcQOuLUeaWjW64aB8y_6taW24yXtVhh2H6QvGAA"
enum { CONNECTIONS = 3, GUESTS_MAX = 64 };

static struct { int fd, port; pthread_t thread; } server;
static struct { int fd; pthread_t thread; } guests[GUESTS_MAX];
static _Atomic int  guest_count;
static _Atomic unsigned turn;                          /* every other connection is given a nonce that can be answered */
static _Atomic int  signed_well, signed_badly;

static void say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        shutdown(fd, SHUT_RDWR);
}

/* As a nats-server: who does not prove itself is refused. */
static bool hears(int fd, const char *line)
{
    bool well;

    if (strncmp(line, "PING", 4) == 0)
        say(fd, "PONG\r\n");
    if (strncmp(line, "CONNECT", 7) != 0)
        return true;
    well = strstr(line, "\"sig\":\"" SIGNATURE "\"") != NULL && strstr(line, PUBLIC) != NULL;
    atomic_fetch_add(well ? &signed_well : &signed_badly, 1);
    if (!well)
        say(fd, "-ERR 'Authorization Violation'\r\n");
    return well;
}

static void *receive(void *arg)
{
    int   fd = *(int *)arg;
    char  line[4096], info[512];
    FILE *f = fdopen(dup(fd), "r");

    snprintf(info, sizeof info, "INFO {\"server_id\":\"S\",\"version\":\"2.9.10\",\"host\":\"127.0.0.1\",\"port\":%d,"
             "\"headers\":true,\"auth_required\":true,\"max_payload\":1048576,\"jetstream\":true,\"nonce\":\"%s\"}\r\n", server.port,
             atomic_fetch_add(&turn, 1) % 2 == 1 ? SENDABLE : UNSENDABLE);
    say(fd, info);
    while (f != NULL && fgets(line, sizeof line, f) != NULL && hears(fd, line))
        ;
    shutdown(fd, SHUT_RDWR);
    if (f != NULL)
        fclose(f);
    return NULL;
}

static void *serve(void *arg)
{
    int fd;

    while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
        int i = atomic_load(&guest_count);

        if (i == GUESTS_MAX) {                         /* the test fails by what it counts */
            close(fd);
            continue;
        }
        guests[i].fd = fd;
        ck_assert_int_eq(pthread_create(&guests[i].thread, NULL, receive, &guests[i].fd), 0);
        atomic_store(&guest_count, i + 1);
    }
    return arg;
}

static void begin(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof a;

    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server.fd, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(server.fd, (struct sockaddr *)&a, &size), 0);
    ck_assert_int_eq(listen(server.fd, 16), 0);
    server.port = ntohs(a.sin_port);
    ck_assert_int_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void hang_up(void)
{
    for (int i = 0; i < atomic_load(&guest_count); i++)
        shutdown(guests[i].fd, SHUT_RDWR);
}

static void end(void)
{
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    hang_up();
    for (int i = 0; i < atomic_load(&guest_count); i++) {
        pthread_join(guests[i].thread, NULL);
        close(guests[i].fd);
    }
    close(server.fd);
}

/* All connections of the bus have come in, `times` times. */
static void comes_in(struct kl_bus *bus, int times)
{
    struct kl_err err = { 0 };

    while (atomic_load(&signed_well) < times * CONNECTIONS || !bus->healthy(bus, &err)) {
        ck_assert_msg(atomic_load(&signed_badly) == 0, "a CONNECT came without its signature");
        ck_assert_msg(atomic_load(&guest_count) < GUESTS_MAX, "%s", err.text);
        usleep(10000);
    }
}

START_TEST(a_signature_that_the_library_cannot_send_is_never_sent_and_the_next_is)
{
    char          file[] = "/tmp/koa-sign-XXXXXX", url[64];
    int           fd = mkstemp(file);
    struct kl_env *env = kl_env_real_new(2);
    struct kl_bus *bus;
    struct kl_err  err = { 0 };
    enum kl_code   code;

    ck_assert_int_eq(write(fd, SEED, strlen(SEED)), (ssize_t)strlen(SEED));
    close(fd);
    begin();
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", server.port);
    code = kl_bus_nats_open(env, &(struct kl_bus_nats_options){ .url = url, .cell = "t", .partitions = 1, .log_replicas = 1,
                                                                 .nkey_file = file, .nkey_public = PUBLIC }, &bus, &err);
    ck_assert_msg(code == KL_OK, "%s", err.text);
    comes_in(bus, 1);
    ck_assert_int_eq(atomic_load(&guest_count), 2 * CONNECTIONS);      /* one of two tries, each time */
    hang_up();                                         /* and the same when it comes back */
    comes_in(bus, 2);
    bus->close(bus);
    bus->free(bus);
    end();
    kl_env_real_free(env);
    unlink(file);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus/sign");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_signature_that_the_library_cannot_send_is_never_sent_and_the_next_is);
    suite_add_tcase(s, t);
    return run_suite(s);
}
