/* Figures of the process, by the names that Prometheus' client libraries gave them. */
#include "libkoal/app/app_priv.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static void add(struct kl_buf *out, const char *name, const char *type, const char *help, double v)
{
    kl_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, v);
}

static unsigned open_files(void)
{
    DIR     *d = opendir("/proc/self/fd");
    unsigned count = 0;

    if (d == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.';
    closedir(d);
    return count > 0 ? count - 1 : 0;                  /* but the one that looks */
}

void kl_app_process_metrics(const char *service, int64_t started_ms, struct kl_buf *out)
{
    unsigned long long size = 0, resident = 0;
    double        page = (double)sysconf(_SC_PAGESIZE);
    struct rusage used;
    struct rlimit files;
    FILE         *f = fopen("/proc/self/statm", "re");

    if (f != NULL) {
        if (fscanf(f, "%llu %llu", &size, &resident) == 2) {
            add(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                (double)resident * page);
            add(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
                (double)size * page);
        }
        fclose(f);
    }
    if (getrusage(RUSAGE_SELF, &used) == 0)
        add(out, "process_cpu_seconds_total", "counter", "User and system CPU time in seconds.",
            (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
                + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
    add(out, "process_open_fds", "gauge", "Open file descriptors.", open_files());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        add(out, "process_max_fds", "gauge", "The most file descriptors there may be.",
            (double)files.rlim_cur);
    add(out, "process_start_time_seconds", "gauge", "Start of the process, since the Unix epoch.",
        (double)started_ms / 1000);
    kl_buf_addf(out, "# HELP koalemos_build_info What runs here; always 1.\n"
                     "# TYPE koalemos_build_info gauge\n"
                     "koalemos_build_info{service=\"%s\",version=\"%s\"} 1\n",
                service, KL_APP_VERSION);
}
