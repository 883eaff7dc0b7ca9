/*
 * What a server gives up once it knows its configuration, before it has threads and listeners: cores that
 * would hold secrets; by seccomp, system calls that it never makes and whoever took it over would; by
 * Landlock, every file and folder but its own. Each as far as the kernel has it, and said in the log.
 *
 * Folders that are named by the configuration may be written; files, and what else lies in their folders (a
 * certificate is replaced by renaming), may be read; so may the system's libraries, certificates and names.
 * Nothing may be executed.
 */
#include "libkoal/app/app_priv.h"

#include "libkoal/env/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- seccomp ---- */

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* Not one of these is made by us or by what we link. */
static const int never[] = {
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2,
    SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_init_module, SYS_finit_module, SYS_delete_module,
    SYS_kexec_load, SYS_bpf, SYS_perf_event_open, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_userfaultfd,
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_open_by_handle_at, SYS_name_to_handle_at,
    SYS_acct, SYS_swapon, SYS_swapoff, SYS_reboot, SYS_sethostname, SYS_setdomainname, SYS_settimeofday,
    SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_personality, SYS_quotactl, SYS_mknodat, SYS_setuid,
    SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_capset, SYS_syslog,
    SYS_vhangup, SYS_fanotify_init, SYS_memfd_create, SYS_pidfd_getfd, SYS_move_mount, SYS_fsopen, SYS_open_tree,
    SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_process_madvise, SYS_kcmp, SYS_shmget, SYS_shmat,
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
};
enum { NEVER = sizeof never / sizeof never[0], FILTER_MOST = 2 * NEVER + 60 };

#define ARG_LOW(i) (offsetof(struct seccomp_data, args) + 8 * (i))     /* little-endian */
#define REFUSE(e) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (e))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static unsigned make_filter(struct sock_filter f[FILTER_MOST])
{
    unsigned n = 0;
#define ADD(...) f[n++] = (struct sock_filter)__VA_ARGS__
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1));        /* x32's */
    ADD(REFUSE(ENOSYS));
    for (unsigned i = 0; i < NEVER; i++) {
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)never[i], 0, 1));
        ADD(REFUSE(EPERM));
    }
    /* Its flags are in memory, where a filter cannot look: the C library then takes clone. */
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
    ADD(REFUSE(ENOSYS));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(0)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0));
    ADD(REFUSE(EPERM));
    ADD(ALLOW);
    /* Memory is written or executed, and what was written there is never executed. A file of ours may still be
     * mapped to be executed, as the C library does with modules for names: that takes code of ours that maps it. */
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 0, 4));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(2)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1));
    ADD(REFUSE(EPERM));
    ADD(ALLOW);
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(2)));
    ADD(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1));
    ADD(REFUSE(EPERM));
    ADD(ALLOW);
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 6));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(0)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 4, 0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 3, 0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 2, 0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 1, 0));        /* getaddrinfo asks for addresses */
    ADD(REFUSE(EAFNOSUPPORT));
    ADD(ALLOW);
#undef ADD
    return n;
}

static bool filter_calls(char *why, size_t size)
{
    struct sock_filter filter[FILTER_MOST];
    struct sock_fprog  program = { .filter = filter };

    program.len = (unsigned short)make_filter(filter);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
        return true;
    snprintf(why, size, "seccomp: %s", strerror(errno));
    return false;
}

/* ---- Landlock ---- */

#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define TRUNCATES (1ULL << 14)                         /* from the third version on */
#define WRITES (READS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                    \
                LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |                              \
                LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER)
#define ALL (WRITES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
             LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

struct rules { int fd; uint64_t truncates; };

static void allow(struct rules *r, const char *path, uint64_t what)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = what };

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return;                                        /* what is not there is not needed */
    (void)syscall(SYS_landlock_add_rule, r->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(rule.parent_fd);
}

/* There is no rule for a folder that is not there. */
static void allow_folder(struct rules *r, const char *path)
{
    struct kl_env_dir *made;
    struct kl_err      unheard;                        /* whoever opens it says what is wrong */

    if (path == NULL || path[0] == '\0')
        return;
    if (kl_env_dir_real_open(path, true, &made, &unheard) == KL_OK)
        made->leave(made);
    allow(r, path, WRITES | r->truncates);
}

static void allow_beside(struct rules *r, const char *file)
{
    char  folder[4096];
    const char *slash = file != NULL ? strrchr(file, '/') : NULL;

    if (file == NULL || file[0] == '\0')
        return;
    if (slash == NULL)
        strcpy(folder, ".");
    else
        snprintf(folder, sizeof folder, "%.*s", slash == file ? 1 : (int)(slash - file), file);
    allow(r, folder, READS);
}

static bool ends(const char *path, const char *with)
{
    size_t n = strlen(path), m = strlen(with);

    return n >= m && strcmp(path + n - m, with) == 0;
}

static bool lock_files(const struct app *a, char *why, size_t size)
{
    static const char *const read_only[] = { "/etc", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share", "/usr/local",
                                             "/proc", "/sys", "/run/systemd/resolve", "/run/resolvconf", "/run/nscd" };
    const struct kl_config *c = a->app.config;
    const char  *url = kl_config_text(c, "store.url");
    long         version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct rules r = { .fd = -1, .truncates = version >= 3 ? TRUNCATES : 0 };
    const struct landlock_ruleset_attr attr = { .handled_access_fs = ALL | r.truncates };
    bool         done;

    if (version < 2) {                                 /* the first cannot rename between folders */
        snprintf(why, size, "Landlock: %s", version < 0 ? strerror(errno) : "the kernel's is too old");
        return false;
    }
    r.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr.handled_access_fs, 0);
    if (r.fd < 0) {
        snprintf(why, size, "Landlock: %s", strerror(errno));
        return false;
    }
    for (size_t i = 0; i < sizeof read_only / sizeof read_only[0]; i++)
        allow(&r, read_only[i], READS);
    allow(&r, "/dev/null", FILES);
    allow(&r, "/dev/urandom", LANDLOCK_ACCESS_FS_READ_FILE);
    allow(&r, "/dev/random", LANDLOCK_ACCESS_FS_READ_FILE);
    allow_beside(&r, a->file);
    for (const struct kl_option *o = kl_app_options; o->path != NULL; o++) {
        if (ends(o->path, ".file"))
            allow_beside(&r, kl_config_text(c, o->path));
        else if (ends(o->path, ".dir") || ends(o->path, "-dir"))
            allow_folder(&r, kl_config_text(c, o->path));
    }
    if (url != NULL && strncmp(url, "dir:", 4) == 0)
        allow_folder(&r, url + 4);
    done = syscall(SYS_landlock_restrict_self, r.fd, 0) == 0;
    if (!done)
        snprintf(why, size, "Landlock: %s", strerror(errno));
    close(r.fd);
    return done;
}

/* ---- all of it ---- */

static void keep_no_core(const struct app *a)
{
    struct rlimit none = { 0, 0 };

    if (kl_config_bool(a->app.config, "core_dumps"))
        return;
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        kl_logf(a->app.log, KL_WARN, "a crash may leave a core, with secrets in it: %s", strerror(errno));
}

enum kl_code kl_app_sandbox(struct app *a, struct kl_err *err)
{
    const char *wish = kl_config_text(a->app.config, "sandbox");
    char        why[2][100] = { "", "" };
    bool        files, calls;

#ifdef KL_CHECKS
    return KL_OK;                                      /* sanitizers trace and map as they like */
#endif
    keep_no_core(a);
    if (strcmp(wish, "off") == 0)
        return KL_OK;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return kl_fail(err, KL_EIO, "sandbox: %s", strerror(errno));
    files = lock_files(a, why[0], sizeof why[0]);
    calls = filter_calls(why[1], sizeof why[1]);
    if (!(files && calls) && strcmp(wish, "on") == 0)
        return kl_fail(err, KL_EIO, "sandbox is on, and the kernel refuses: %s%s%s", why[0],
                       !files && !calls ? "; " : "", why[1]);
    kl_logf(a->app.log, files && calls ? KL_INFO : KL_WARN, "sandbox: files %s, system calls %s%s%s%s%s",
            files ? "by Landlock" : "as the user may", calls ? "by seccomp" : "all", why[0][0] != '\0' ? "; " : "", why[0],
            why[1][0] != '\0' ? "; " : "", why[1]);
    return KL_OK;
}
