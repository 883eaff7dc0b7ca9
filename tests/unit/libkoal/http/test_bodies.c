/* libkoal/http: bodies of requests are bounded, each and all together, and end where they say. */
#include "server_kit.h"

static unsigned send_body(int fd, const char *path, size_t size, const char *more)
{
    char *bytes = malloc(size + 1), head[200];

    memset(bytes, 'x', size);
    bytes[size > 0 ? size - 1 : 0] = 'y';
    snprintf(head, sizeof head, "POST %s" H "%sContent-Length: %zu\r\n\r\n", path, more, size);
    say(fd, head);
    put(fd, bytes, size);                              /* may be cut short by a refusal */
    free(bytes);
    return hear(fd, false);
}

START_TEST(body_up_to_the_routes_bound_is_taken_and_past_it_refused)
{
    int fd = dial();

    ck_assert_uint_eq(send_body(fd, "/write", LARGE_MAX, ""), 200);
    ck_assert_str_eq(body(), "4194304 79 0");
    ck_assert_uint_eq(send_body(fd, "/echo", SMALL_MAX, ""), 200);
    ck_assert_uint_eq(send_body(fd, "/echo", SMALL_MAX + 1, ""), 413);
    ck_assert(has("the body has 1001 bytes; at most 1000 are taken"));
    ck_assert_uint_eq(send_body(fd, "/write", 0, ""), 200);     /* the connection is still good */
    close(fd);
    fd = dial();
    say(fd, "POST /write" H "Content-Length: 4194305\r\n\r\n"); /* not one byte of it */
    ck_assert_uint_eq(hear(fd, false), 413);
    ck_assert(has("Connection: close"));
    ck_assert_int_eq(recv(fd, answer, 1, 0), 0);
    close(fd);
    fd = dial();
    say(fd, "POST /write" H "Content-Length: 99999999999999999999999\r\n\r\n");
    ck_assert_uint_eq(hear(fd, false), 413);
    close(fd);
}
END_TEST

START_TEST(client_that_writes_on_still_reads_its_413)
{
    for (int i = 0; i < 20; i++) {
        int fd = dial();

        ck_assert_uint_eq(send_body(fd, "/write", LARGE_MAX + 1, ""), 413);
        close(fd);
    }
}
END_TEST

static bool send_chunks(int fd, size_t count)
{
    static char chunk[1024 * 16 + 10];
    size_t      size = (size_t)sprintf(chunk, "4000\r\n");

    memset(chunk + size, 'z', 0x4000);
    memcpy(chunk + size + 0x4000, "\r\n", 2);
    for (size_t i = 0; i < count; i++)
        if (!put(fd, chunk, size + 0x4000 + 2))
            return false;
    return put(fd, "0\r\n\r\n", 5);
}

START_TEST(chunked_body_is_bounded_as_it_grows)
{
    static const char head[] = "POST /write" H "Transfer-Encoding: chunked\r\n\r\n";
    int               fd = dial();

    say(fd, head);
    ck_assert(send_chunks(fd, LARGE_MAX / 0x4000));
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "4194304 7a 0");
    say(fd, head);
    ck_assert(send_chunks(fd, LARGE_MAX / 0x4000 + 1));
    ck_assert_uint_eq(hear(fd, false), 413);
    say(fd, head);
    ck_assert(send_chunks(fd, 1));                     /* still good */
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, head);
    ck_assert(!send_chunks(fd, 4 * LARGE_MAX / 0x4000));        /* closed on */
    close(fd);
}
END_TEST

START_TEST(bodies_of_all_together_are_bounded)
{
    int  a = dial(), b = dial();
    char half[4096];

    say(a, "POST /write" H "Content-Length: 4194304\r\n\r\n");
    memset(half, 'x', sizeof half);
    for (int i = 0; i < 1023; i++)
        ck_assert(put(a, half, sizeof half));
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    ck_assert_uint_eq(send_body(b, "/write", LARGE_MAX, "Expect: 100-continue\r\n"), 503);
    ck_assert(has("Retry-After: 1"));
    close(b);
    b = dial();
    say(b, "POST /write" H "Transfer-Encoding: chunked\r\n\r\n");
    send_chunks(b, LARGE_MAX / 0x4000);
    ck_assert_uint_ne(hear(b, false), 200);            /* 503, or closed on as too much to drop */
    close(b);
    ck_assert(put(a, half, sizeof half));
    ck_assert_uint_eq(hear(a, false), 200);
    b = dial();
    ck_assert_uint_eq(send_body(b, "/write", LARGE_MAX, ""), 200);      /* all is given back */
    close(a);
    close(b);
}
END_TEST

/* A form is kept as it was sent, and once more, decoded. */
START_TEST(a_form_counts_twice_among_the_bodies)
{
    static const char form[] = "Content-Type: application/x-www-form-urlencoded\r\n";
    int               fd = dial();

    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 - 100, form), 200);
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 + 100, form), 503);
    ck_assert(has("Retry-After: 1"));
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 + 100, ""), 200);
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 - 100, form), 200);      /* all is given back */
    close(fd);
}
END_TEST

START_TEST(long_heads_count_among_the_bodies_and_short_ones_always_pass)
{
    enum { LONG = 20000, MANY = 150 };
    static char line[LONG + 64];
    char half[4096];
    int  a = dial(), fds[MANY], last;
    unsigned status;

    say(a, "POST /write" H "Content-Length: 4194304\r\n\r\n");
    memset(half, 'x', sizeof half);
    for (int i = 0; i < 1023; i++)
        ck_assert(put(a, half, sizeof half));
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    strcpy(line, "GET /echo?a=");
    memset(line + strlen(line), 'x', LONG);
    strcpy(line + strlen("GET /echo?a=") + LONG, H);
    for (int i = 0; i < MANY; i++) {                   /* each stops before its end */
        fds[i] = dial();
        say(fds[i], line);
    }
    do {                                               /* until the server has read all of them */
        last = dial();
        say(last, line);
        say(last, "\r\n");
        status = hear(last, false);
        close(last);
    } while (status == 200);
    ck_assert_uint_eq(status, 503);
    ck_assert_uint_eq(ask("GET /echo" H "\r\n"), 200);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    ck_assert(put(a, half, sizeof half));
    ck_assert_uint_eq(hear(a, false), 200);
    close(a);
    do {                                               /* all is given back */
        last = dial();
        say(last, line);
        say(last, "\r\n");
        status = hear(last, false);
        close(last);
    } while (status == 503);
    ck_assert_uint_eq(status, 200);
}
END_TEST

START_TEST(client_that_waits_is_told_to_go_on_or_not)
{
    int fd = dial();

    say(fd, "POST /write" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    ck_assert_uint_eq(hear(fd, true), 100);
    say(fd, "abc");
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, "POST /echo" H "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    ck_assert_uint_eq(hear(fd, false), 413);
    close(fd);
}
END_TEST

START_TEST(unclear_ends_of_bodies_are_refused_and_end_the_connection)
{
    static const char *const unclear[] = {
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 3 4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length : 3\r\n",                      /* a name that no other server takes for it */
        "Content-Length\t: 3\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length\v: 3\r\n",
        "A(b): 3\r\n",
    };
    char request[300];
    int  fd = dial();

    snprintf(request, sizeof request,
             "POST /write" H "%s\r\nabcGET /echo" H "\r\n", unclear[_i]);
    say(fd, request);
    ck_assert_uint_eq(hear(fd, false), 400);
    ck_assert_uint_eq(hear(fd, false), 0);
    ck_assert_uint_eq(atomic_load(&calls), 0);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/server: bodies");
    TCase *t = tcase_create("all"), *patient = tcase_create("patient");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, body_up_to_the_routes_bound_is_taken_and_past_it_refused);
    tcase_add_test(t, client_that_writes_on_still_reads_its_413);
    tcase_add_test(t, chunked_body_is_bounded_as_it_grows);
    tcase_add_test(t, bodies_of_all_together_are_bounded);
    tcase_add_test(t, a_form_counts_twice_among_the_bodies);
    tcase_add_test(t, client_that_waits_is_told_to_go_on_or_not);
    tcase_add_loop_test(t, unclear_ends_of_bodies_are_refused_and_end_the_connection, 0, 13);
    suite_add_tcase(s, t);

    tcase_add_checked_fixture(patient, setup_patient, teardown);
    tcase_set_timeout(patient, 60);
    tcase_add_test(patient, long_heads_count_among_the_bodies_and_short_ones_always_pass);
    suite_add_tcase(s, patient);

    return run_suite(s);
}
