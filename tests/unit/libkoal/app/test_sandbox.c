/* What a process may still do after it was opened as a server. Each test is a process of its own. */
#include "libkoal/app/app.h"
#include "tests/suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef KL_CHECKS                                      /* sanitizers: there is no sandbox */
static char folder[64], data[100], other[100], secret[100];

/* All syncs of the process go this way. */
static struct { ino_t inode[64]; size_t count; } synced;

int fsync(int fd)
{
    struct stat s;

    if (synced.count < 64 && fstat(fd, &s) == 0)
        synced.inode[synced.count++] = s.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

static bool was_synced(const char *path)
{
    struct stat s;

    ck_assert_int_eq(stat(path, &s), 0);
    for (size_t i = 0; i < synced.count; i++)
        if (synced.inode[i] == s.st_ino)
            return true;
    return false;
}

static struct kl_app *open_server(const char *more)
{
    char          *argv[] = { (char *)"t", (char *)"--data-dir", data, (char *)"--tls.key.file", secret, (char *)more };
    int            status;
    struct kl_app *a = kl_app_open("tester", more != NULL ? 6 : 5, argv, 1, "127.0.0.1:4480", &status);

    ck_assert_ptr_nonnull(a);
    return a;
}

static void setup(void)
{
    strcpy(folder, "/tmp/koalemos-sandbox-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(data, sizeof data, "%s/data/deep", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(secret, sizeof secret, "%s/keys/key.pem", folder);
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 2;
}

static int try_write(const char *in)
{
    char path[300];
    int  fd;

    snprintf(path, sizeof path, "%s/file", in);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : errno;
}

START_TEST(files_are_its_own_alone)
{
    char path[200], moved[200];
    int  fd;

    if (!has_landlock())
        return;
    snprintf(path, sizeof path, "%s/keys", folder);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(mkdir(other, 0700), 0);
    ck_assert_int_eq(try_write(path), 0);
    ck_assert_int_eq(try_write(other), 0);
    open_server(NULL);
    ck_assert_int_eq(try_write(data), 0);              /* the folder was made, too */
    snprintf(path, sizeof path, "%s/file", data);
    snprintf(moved, sizeof moved, "%s/sub", data);
    ck_assert_int_eq(mkdir(moved, 0700), 0);
    snprintf(moved, sizeof moved, "%s/sub/file", data);
    ck_assert_int_eq(rename(path, moved), 0);          /* filesets change folders */
    ck_assert_int_eq(truncate(moved, 0), 0);
    snprintf(path, sizeof path, "%s/keys/file", folder);
    fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);                           /* beside a file that is named */
    snprintf(path, sizeof path, "%s/keys", folder);
    ck_assert_int_eq(open(path, O_RDONLY) >= 0, 1);
    snprintf(path, sizeof path, "%s/keys/new", folder);
    ck_assert_int_eq(open(path, O_WRONLY | O_CREAT, 0600), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(try_write(other), EACCES);
    snprintf(path, sizeof path, "%s/other/file", folder);
    ck_assert_int_eq(open(path, O_RDONLY), -1);
    ck_assert_int_eq(open("/root/.profile", O_RDONLY), -1);
    ck_assert_int_ge(open("/etc/passwd", O_RDONLY), 0);
    ck_assert_int_ge(open("/dev/urandom", O_RDONLY), 0);
    ck_assert_int_ge(open("/proc/self/statm", O_RDONLY), 0);
    ck_assert_int_eq(open("/etc/passwd", O_WRONLY), -1);
}
END_TEST

/* Whoever opens a folder that is there does not ask whether its name would outlast a power cut. */
START_TEST(folders_that_it_makes_are_closed_to_others_and_their_names_are_on_disk)
{
    char        path[100];
    struct stat s;

    if (!has_landlock())
        return;
    open_server(NULL);
    snprintf(path, sizeof path, "%s/data", folder);
    ck_assert(was_synced(folder));
    ck_assert(was_synced(path));
    ck_assert_int_eq(stat(path, &s), 0);
    ck_assert_uint_eq(s.st_mode & 07007, 0);
    ck_assert_int_eq(stat(data, &s), 0);
    ck_assert_uint_eq(s.st_mode & 07007, 0);
}
END_TEST

static void *nothing(void *ctx) { return ctx; }

START_TEST(calls_that_it_never_makes_are_refused_and_those_that_it_makes_are_not)
{
    char     *args[] = { (char *)"/bin/true", NULL };
    pthread_t t;
    void     *at;
    struct addrinfo *found;

    open_server(NULL);
    ck_assert_int_eq(execv(args[0], args), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(fork(), -1);
    ck_assert_int_eq(syscall(SYS_ptrace, 0, 0, 0, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(setuid(0), -1);
    ck_assert_int_eq(syscall(SYS_unshare, 0), -1);
    ck_assert_int_eq(socket(AF_PACKET, SOCK_RAW, 0), -1);
    ck_assert_int_eq(errno, EAFNOSUPPORT);
    ck_assert_ptr_eq(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
    at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(at, MAP_FAILED);
    ck_assert_int_eq(mprotect(at, 4096, PROT_READ | PROT_EXEC), -1);
    ck_assert_int_eq(mprotect(at, 4096, PROT_READ), 0);
    ck_assert_int_eq(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700), -1);   /* SHM_EXEC would be written, and executed */
    ck_assert_int_eq(errno, EPERM);

    ck_assert_int_eq(pthread_create(&t, NULL, nothing, NULL), 0);
    pthread_join(t, NULL);
    ck_assert_int_ge(socket(AF_INET6, SOCK_STREAM, 0), 0);
    ck_assert_int_eq(getaddrinfo("localhost", "80", NULL, &found), 0);
    freeaddrinfo(found);
}
END_TEST

START_TEST(no_core_is_left_with_secrets_in_it)
{
    struct rlimit l;

    open_server(NULL);
    ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_CORE, &l), 0);
    ck_assert_uint_eq(l.rlim_max, 0);
}
END_TEST

START_TEST(off_is_off)
{
    open_server("--sandbox=off");
    ck_assert_int_ne(fork(), -1);
    _exit(0);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("libkoal/app/sandbox");
    TCase *t = tcase_create("sandbox");
    int    failed;

#ifndef KL_CHECKS
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, files_are_its_own_alone);
    tcase_add_test(t, folders_that_it_makes_are_closed_to_others_and_their_names_are_on_disk);
    tcase_add_test(t, calls_that_it_never_makes_are_refused_and_those_that_it_makes_are_not);
    tcase_add_test(t, no_core_is_left_with_secrets_in_it);
    tcase_add_test(t, off_is_off);
#endif
    suite_add_tcase(s, t);
    failed = run_suite(s);
    (void)!system("rm -rf /tmp/koalemos-sandbox-*");
    return failed;
}
