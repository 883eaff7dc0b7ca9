/*
 * libkoal/bus/nats_servers: the version that a server tells first, and whoever tells none is left out.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/suite.h"

static const char info[] = "INFO {\"server_id\":\"NA\",\"auth\":{\"version\":\"9.9.9\"},\"version\":\"2.9.10\",\"proto\":1,"
                           "\"connect_urls\":[\"10.0.0.1:4222\"],\"jetstream\":true} \r\n";

static struct kl_bus_server all[KL_BUS_SERVERS_MAX];
static int                  listener;
static unsigned             port;
static const char          *says;                      /* in two pieces; NULL: it takes the connection, and is silent */
static unsigned             asked;
static char                 urls[200];

static void setup(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          size = sizeof at;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(listener, 8), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    port = ntohs(at.sin_port);
    says = info;
    asked = 0;
}

static void teardown(void) { close(listener); }

static void *serve(void *ctx)
{
    for (unsigned *count = ctx; *count > 0; (*count)--) {
        int    fd = accept(listener, NULL, NULL);
        size_t size = says == NULL ? 0 : strlen(says), n;

        if (fd < 0)
            break;
        asked++;
        n = size / 2;
        if (says == NULL) {                            /* until the other end has given up */
            char none;

            n = (size_t)read(fd, &none, 1);
        } else if (write(fd, says, n) == (ssize_t)n && size > n) {
            usleep(1000);
            if (write(fd, says + n, size - n) < 0)
                says = info;
        }
        close(fd);
    }
    return NULL;
}

static unsigned look(unsigned connections, int64_t wait_ms)
{
    pthread_t thread;
    unsigned  told, left = connections;

    ck_assert_int_eq(pthread_create(&thread, NULL, serve, &left), 0);
    told = kl_bus_nats_servers(urls, wait_ms, all);
    ck_assert_int_eq(shutdown(listener, SHUT_RDWR), 0);
    pthread_join(thread, NULL);
    return told;
}

START_TEST(a_server_tells_its_version_first_whoever_asks)
{
    char expect[80];

    snprintf(urls, sizeof urls, "nats://me:a:secret@127.0.0.1:%u/", port);
    ck_assert_uint_eq(look(1, 20000), 1);
    snprintf(expect, sizeof expect, "127.0.0.1:%u", port);
    ck_assert_str_eq(all[0].address, expect);
    ck_assert_str_eq(all[0].version, "2.9.10");
}
END_TEST

START_TEST(one_that_is_named_twice_is_asked_once)
{
    snprintf(urls, sizeof urls, "127.0.0.1:%u, tls://127.0.0.1:%u,", port, port);
    ck_assert_uint_eq(look(2, 20000), 1);
    ck_assert_uint_eq(asked, 1);
}
END_TEST

START_TEST(who_says_nothing_or_something_else_is_left_out)
{
    static const char *const others[] = {
        NULL, "", "\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "INFO {\"server_id\":\"NA\"}\r\n", "INFO {\"version\":7}\r\n",
        "INFO {\"version\":\"\"}\r\n", "INFO {\"version\":\"2.9.10", "INFO {\"version\":\"2 \\n\"}\r\n",
        "INFO {\"version\":\"2.9.10-and-much-more-than-there-is-room-for\"}\r\n",
    };

    says = others[_i];
    snprintf(urls, sizeof urls, "nats://127.0.0.1:%u", port);
    ck_assert_uint_eq(look(1, _i == 0 ? 50 : 20000), 0);
}
END_TEST

START_TEST(who_is_not_there_or_cannot_be_is_left_out)
{
    close(listener);
    ck_assert_uint_eq(kl_bus_nats_servers("nats://127.0.0.1:1,nats://127.0.0.1:99999,nats://,nats://[::1,,:,@,127.0.0.1:x", 20000, all), 0);
    ck_assert_uint_eq(kl_bus_nats_servers("", 20000, all), 0);
}
END_TEST

START_TEST(versions_are_compared_as_numbers)
{
    ck_assert(kl_bus_version_before("2.9.10", 2, 10));
    ck_assert(kl_bus_version_before("1.4", 2, 10));
    ck_assert(!kl_bus_version_before("2.10.0", 2, 10));
    ck_assert(!kl_bus_version_before("2.15.1-RC.2", 2, 10));
    ck_assert(!kl_bus_version_before("10.0.0", 2, 10));
    ck_assert(!kl_bus_version_before("2.", 2, 10));
    ck_assert(!kl_bus_version_before("-1.2", 2, 10));
    ck_assert(!kl_bus_version_before("dev", 2, 10));
    ck_assert(!kl_bus_version_before("", 2, 10));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus/nats_servers");
    TCase *t = tcase_create("servers");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_server_tells_its_version_first_whoever_asks);
    tcase_add_test(t, one_that_is_named_twice_is_asked_once);
    tcase_add_loop_test(t, who_says_nothing_or_something_else_is_left_out, 0, 10);
    tcase_add_test(t, who_is_not_there_or_cannot_be_is_left_out);
    tcase_add_test(t, versions_are_compared_as_numbers);
    suite_add_tcase(s, t);
    return run_suite(s);
}
