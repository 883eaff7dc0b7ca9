/*
 * libkoal/app: a program as an operator meets it: flags, file and environment, what it prints, what
 * it answers, and how it ends. Each run is a process of its own.
 */
#include "libkoal/app/app.h"
#include "tests/suite.h"

#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OUT_MAX = 64 * 1024, ARGS_MAX = 12 };

struct run { pid_t pid; int out; char text[OUT_MAX]; size_t size; };
static struct run run;
static char       file[64];

static bool not_ready(void *ctx, struct kl_err *err)
{
    kl_fail(err, KL_EAGAIN, "the log is %s", (const char *)ctx);
    return false;
}

static void hang(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    (void)r;                                           /* never answers */
}

static int program(int argc, char **argv)
{
    static char    where[] = "far away";
    int            status;
    struct kl_app *a = kl_app_open("tester", argc, argv, 1, "127.0.0.1:00", &status);   /* a server: not KL_APP_TOOL */

    if (a == NULL)
        return status;
    if (strcmp(kl_config_text(a->config, "cell"), "sick") == 0) {
        a->ready = not_ready;
        a->ctx = where;
    }
    kl_http_route_add(a->http, &(struct kl_http_route){ .method = "GET", .path = "/hang",
                                                        .handle = hang });
    status = kl_app_run(a);
    kl_app_close(a);
    return status;
}

static void start(const char *const *args)
{
    static char no_sandbox[] = "--sandbox=off";        /* what it keeps from a server: test_sandbox.c */
    char       *argv[ARGS_MAX + 3] = { (char *)(uintptr_t)"tester" };
    int         argc = 1, fds[2];

    for (; args[argc - 1] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    argv[argc++] = no_sandbox;
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    fflush(NULL);
    run.size = 0;
    run.text[0] = '\0';                              /* of the run before */
    run.pid = fork();
    if (run.pid == 0) {
        signal(SIGINT, SIG_DFL);                       /* libcheck has its own */
        signal(SIGTERM, SIG_DFL);
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        argc = program(argc, argv);
        fflush(NULL);
        _exit(argc);
    }
    close(fds[1]);
    run.out = fds[0];
}

static bool read_more(void)
{
    ssize_t n = read(run.out, run.text + run.size, OUT_MAX - 1 - run.size);

    run.size += n > 0 ? (size_t)n : 0;
    run.text[run.size] = '\0';
    return n > 0;
}

/* The exit status; what it said is in run.text. */
static int finish(void)
{
    int status;

    while (read_more()) { }
    close(run.out);
    ck_assert_int_eq(waitpid(run.pid, &status, 0), run.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define RUN(...) (start((const char *const[]){ __VA_ARGS__, NULL }), finish())
#define SAYS(what) ck_assert_msg(strstr(run.text, what) != NULL, "not in: %s", run.text)

static unsigned wait_port(void)
{
    char *at;

    while ((at = strstr(run.text, "listening on http://127.0.0.1:")) == NULL ||
           strchr(at, '\n') == NULL)
        ck_assert_msg(read_more(), "it ended: %s", run.text);
    return (unsigned)atoi(at + strlen("listening on http://127.0.0.1:"));
}

static char answer[OUT_MAX];
static int  dial(unsigned port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static unsigned ask(unsigned port, const char *what)
{
    char    request[300];
    size_t  size = 0;
    ssize_t n;
    int     fd = dial(port);

    n = snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                 "Content-Length: 0\r\n\r\n", what);
    ck_assert_int_eq(send(fd, request, (size_t)n, 0), n);
    while ((n = recv(fd, answer + size, sizeof answer - 1 - size, 0)) > 0)
        size += (size_t)n;
    answer[size] = '\0';
    close(fd);
    return size > 9 ? (unsigned)atoi(answer + 9) : 0;
}

static void write_file(const char *text)
{
    int fd;

    if (file[0] == '\0') {
        strcpy(file, "/tmp/app-XXXXXX");
        fd = mkstemp(file);
    } else {
        fd = open(file, O_WRONLY | O_TRUNC);
    }
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void setup(void) { file[0] = '\0'; }
static void teardown(void)
{
    if (file[0] != '\0')
        unlink(file);
}

START_TEST(help_names_every_option_and_version_the_program)
{
    ck_assert_int_eq(RUN("--help"), 0);
    for (const struct kl_option *o = kl_app_options; o->path != NULL; o++)
        SAYS(o->path);
    ck_assert_int_eq(RUN("--version"), 0);
    ck_assert_str_eq(run.text, "tester " KL_APP_VERSION "\n");
}
END_TEST

START_TEST(flag_wins_over_environment_and_environment_over_file)
{
    write_file("cell: infile\nlimits: {past: 2h, future: 3m}\nlog:\n  level: warn\n");
    setenv("KOALEMOS_CELL", "inenv", 1);
    setenv("KOALEMOS_LIMITS_PAST", "5h", 1);
    ck_assert_int_eq(RUN("--config", file, "--print-config", "--limits.past=7h"), 0);
    unsetenv("KOALEMOS_CELL");
    unsetenv("KOALEMOS_LIMITS_PAST");
    SAYS("cell: \"inenv\"");
    SAYS("past: \"7h\"");
    SAYS("future: \"3m\"");
    SAYS("level: \"warn\"");
}
END_TEST

START_TEST(printed_config_reads_back_as_itself)
{
    static char first[OUT_MAX];

    ck_assert_int_eq(RUN("--print-config", "--placement.static", "a=0-7,b=8-15", "--data-dir=/x"), 0);
    strcpy(first, run.text);
    write_file(first);
    ck_assert_int_eq(RUN("--config", file, "--print-config"), 0);
    ck_assert_str_eq(run.text, first);
}
END_TEST

START_TEST(dash_and_underscore_are_alike_in_flags)
{
    ck_assert_int_eq(RUN("--print-config", "--data_dir", "/x", "--http.connections-max=7"), 0);
    SAYS("data-dir: \"/x\"");
    SAYS("connections_max: \"7\"");
}
END_TEST

START_TEST(wrong_options_are_told_with_what_would_be_right)
{
    ck_assert_int_eq(RUN("--nonsense=1"), 2);
    SAYS("there is no flag --nonsense");
    ck_assert_int_eq(RUN("--log.replica=3"), 2);
    SAYS("there is no flag --log.replica; did you mean \"log.replicas\"?");
    ck_assert_int_eq(RUN("nonsense"), 2);
    SAYS("\"nonsense\" is no flag");
    ck_assert_int_eq(RUN("--log.replicas=2"), 2);
    SAYS("log.replicas: 2 is none of 1, 3 and 5");
    ck_assert_int_eq(RUN("--partitions=12"), 2);
    SAYS("partitions: 12 is no power of two");
    ck_assert_int_eq(RUN("--log.level=loud"), 2);
    SAYS("should be one of debug|info|warn|error");
    ck_assert_int_eq(RUN("--limits.past=soon"), 2);
    SAYS("and should be a duration");
    ck_assert_int_eq(RUN("--cell"), 2);
    SAYS("flag --cell wants a value");
    ck_assert_int_eq(RUN("--config", "/none/of/these"), 2);
    SAYS("/none/of/these: No such file");
    write_file("cell: a\nlimits:\n  passed: 1h\n");
    ck_assert_int_eq(RUN("--config", file), 2);
    SAYS("limits.passed");
    SAYS(file);
}
END_TEST

START_TEST(taken_port_is_a_sentence_and_a_failure)
{
    char flag[40];

    start((const char *const[]){ "--listen=127.0.0.1:0", NULL });
    snprintf(flag, sizeof flag, "--listen=127.0.0.1:%u", wait_port());
    struct run first = run;
    ck_assert_int_eq(RUN(flag), 1);
    SAYS("Address already in use (--listen takes another");
    run = first;
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
}
END_TEST

START_TEST(process_answers_for_itself_and_ends_on_request)
{
    unsigned port;

    start((const char *const[]){ "--log.format=json", "--http.lifecycle=true", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "GET /-/healthy"), 200);
    ck_assert_uint_eq(ask(port, "GET /-/ready"), 200);
    ck_assert_uint_eq(ask(port, "GET /ready"), 200);
    ck_assert_uint_eq(ask(port, "GET /"), 200);
    ck_assert_ptr_nonnull(strstr(answer, "koalemos tester " KL_APP_VERSION "\n"));
    ck_assert_uint_eq(ask(port, "GET /version"), 200);
    ck_assert_ptr_nonnull(strstr(answer, "\"version\":\"" KL_APP_VERSION "\""));
    ck_assert_uint_eq(ask(port, "GET /metrics"), 200);
    ck_assert_ptr_nonnull(strstr(answer, "\n# TYPE process_cpu_seconds_total counter\n"));
    ck_assert_ptr_nonnull(strstr(answer, "\nprocess_resident_memory_bytes "));
    ck_assert_ptr_nonnull(strstr(answer, "\nprocess_start_time_seconds "));
    ck_assert_ptr_nonnull(strstr(answer, "koalemos_http_requests_total{code=\"2xx\""));
    ck_assert_uint_eq(ask(port, "GET /-/quit"), 405);
    ck_assert_uint_eq(ask(port, "POST /-/quit"), 200);
    ck_assert_int_eq(finish(), 0);
    SAYS("\"level\":\"info\",\"service\":\"tester\"");
}
END_TEST

START_TEST(a_line_of_the_log_has_its_fields_as_json_and_as_text)
{
    unsigned port;

    start((const char *const[]){ "--log.format=json", "--log.requests=all", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "GET /x\"y?token=1"), 404);
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
    SAYS("\"level\":\"info\",\"service\":\"tester\",\"message\":\"answered 404\",\"request_id\":\"");
    SAYS("\"method\":\"GET\",\"path\":\"/x\\\"y\",\"status\":404,\"duration_us\":");
    start((const char *const[]){ "--log.requests=all", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "GET /x\"y"), 404);
    ck_assert_uint_eq(ask(port, "GET /-/healthy"), 200);
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
    SAYS("Z info  tester: answered 404 request_id=");
    SAYS(" method=GET path=\"/x\\\"y\" status=404 duration_us=");
    ck_assert_ptr_null(strstr(run.text, "healthy"));
}
END_TEST

START_TEST(lifecycle_is_closed_unless_it_is_opened)
{
    unsigned port;

    start((const char *const[]){ "--log.format=json", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "POST /-/quit"), 403);
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 403);
    ck_assert_uint_eq(ask(port, "GET /-/healthy"), 200);
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
}
END_TEST

static void must_show(unsigned port, const char *path, const char *what)
{
    ck_assert_uint_eq(ask(port, path), 200);
    ck_assert_msg(strstr(answer, what) != NULL, "%s not in %s", what, answer);
}

START_TEST(a_reload_takes_all_or_nothing_and_says_what)
{
    unsigned port;

    write_file("http: {lifecycle: true}\nlog: {level: error}\n");
    start((const char *const[]){ "--config", file, "--log.level=info", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 200);
    ck_assert_ptr_nonnull(strstr(answer, "unchanged"));
    write_file("http: {lifecycle: true, drain: 3s}\nlog: {level: debug}\n");   /* of the two a flag hides one */
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 200);
    ck_assert_ptr_nonnull(strstr(answer, "taken: http.drain\n"));
    must_show(port, "GET /config", "drain: \"3s\"");

    write_file("http: {lifecycle: true, drain: 4s, threads: 3}\n");
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 409);
    ck_assert_ptr_nonnull(strstr(answer, "changed, and takes a restart: http.threads; nothing was taken"));
    must_show(port, "GET /config", "drain: \"3s\"");
    must_show(port, "GET /config", "was refused: changed, and takes a restart: http.threads");

    write_file("http: {lifecycle: true, drain: 4s}\nlimits: {past: soon}\n");
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 500);
    ck_assert_ptr_nonnull(strstr(answer, "line 2, column 16: limits.past is \"soon\""));
    must_show(port, "GET /config", "drain: \"3s\"");
    must_show(port, "GET /config", file);
    must_show(port, "GET /metrics", "koalemos_config_last_reload_successful 0");

    write_file("http: {lifecycle: true}\nretention_rules: [{match: up, keep: 7d, keep_1h: 90d}]\n");
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 500);
    ck_assert_ptr_nonnull(strstr(answer, "line 2, column 18: retention_rules: rule 1 has keep_1h, but no such rows are made: set rollup.1h"));
    must_show(port, "GET /config", "drain: \"3s\"");

    write_file("http: {lifecycle: false}\n");          /* and may close the door behind itself */
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 200);
    ck_assert_uint_eq(ask(port, "POST /-/reload"), 403);
    must_show(port, "GET /metrics", "koalemos_config_last_reload_successful 1");
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
    SAYS("configuration not reloaded: changed, and takes a restart: http.threads");
}
END_TEST

START_TEST(sighup_reloads_and_ends_nothing)
{
    unsigned port;

    write_file("log: {format: text}\n");
    start((const char *const[]){ "--config", file, NULL });
    port = wait_port();
    write_file("log: {format: json}\n");
    kill(run.pid, SIGHUP);
    while (strstr(run.text, "configuration reloaded, taken: log.format") == NULL)
        ck_assert_msg(read_more(), "it ended: %s", run.text);
    write_file("log: {format: xml}\n");
    kill(run.pid, SIGHUP);
    while (strstr(run.text, "configuration not reloaded: ") == NULL)
        ck_assert_msg(read_more(), "it ended: %s", run.text);
    ck_assert_uint_eq(ask(port, "GET /-/healthy"), 200);
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
    SAYS("\"message\":\"Terminated: stopping\"");
}
END_TEST

START_TEST(readiness_says_why_not)
{
    unsigned port;

    start((const char *const[]){ "--cell=sick", NULL });
    port = wait_port();
    ck_assert_uint_eq(ask(port, "GET /-/ready"), 503);
    ck_assert_ptr_nonnull(strstr(answer, "the log is far away"));
    ck_assert_uint_eq(ask(port, "GET /-/healthy"), 200);
    while (strstr(run.text, "not ready: the log is far away") == NULL)       /* and the log does, unasked */
        ck_assert(read_more());
    kill(run.pid, SIGINT);
    ck_assert_int_eq(finish(), 0);
    start((const char *const[]){ "--cell=well", NULL });
    while (strstr(run.text, "tester: ready\n") == NULL)
        ck_assert(read_more());
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
}
END_TEST

START_TEST(stop_waits_for_http_drain_and_no_longer)
{
    struct timespec from, to;
    int             fd;

    start((const char *const[]){ "--http.drain=300ms", NULL });
    fd = dial(wait_port());
    ck_assert_int_gt(send(fd, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n", 31, 0), 0);
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    clock_gettime(CLOCK_MONOTONIC, &from);
    kill(run.pid, SIGTERM);
    ck_assert_int_eq(finish(), 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    double took = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    ck_assert(took > 0.25 && took < 5);
    ck_assert_int_gt(recv(fd, answer, sizeof answer - 1, 0), 0);
    ck_assert_int_eq(atoi(answer + 9), 503);
    close(fd);
}
END_TEST

START_TEST(second_signal_ends_a_stop_that_waits)
{
    int fd;

    start((const char *const[]){ "--http.drain=10m", NULL });
    fd = dial(wait_port());
    ck_assert_int_gt(send(fd, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n", 31, 0), 0);
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    kill(run.pid, SIGTERM);
    nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
    kill(run.pid, SIGINT);
    ck_assert_int_eq(finish(), 128 + SIGINT);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/app");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, help_names_every_option_and_version_the_program);
    tcase_add_test(t, flag_wins_over_environment_and_environment_over_file);
    tcase_add_test(t, printed_config_reads_back_as_itself);
    tcase_add_test(t, dash_and_underscore_are_alike_in_flags);
    tcase_add_test(t, wrong_options_are_told_with_what_would_be_right);
    tcase_add_test(t, taken_port_is_a_sentence_and_a_failure);
    tcase_add_test(t, process_answers_for_itself_and_ends_on_request);
    tcase_add_test(t, a_line_of_the_log_has_its_fields_as_json_and_as_text);
    tcase_add_test(t, lifecycle_is_closed_unless_it_is_opened);
    tcase_add_test(t, a_reload_takes_all_or_nothing_and_says_what);
    tcase_add_test(t, sighup_reloads_and_ends_nothing);
    tcase_add_test(t, readiness_says_why_not);
    tcase_add_test(t, stop_waits_for_http_drain_and_no_longer);
    tcase_add_test(t, second_signal_ends_a_stop_that_waits);
    suite_add_tcase(s, t);
    return run_suite(s);
}
