/*
 * Pushes made-up series to a server as agents do: remote write 1.0, snappy, over kept connections.
 *
 *   push PORT SERIES FROM TO PER_REQUEST TOGETHER CONNECTIONS BEGIN_MS STEP_MS RATE
 *
 * Samples FROM to TO (indexes) of SERIES series of ten labels, PER_REQUEST series a request, TOGETHER
 * samples a series in each, at BEGIN_MS + index * STEP_MS; RATE samples a second, 0: as fast as it can.
 * Of twenty series eleven never change, five are counters, three are gauges of two decimals, and one
 * is noise to its last bit. One label, the pod, is a series' own. Prints one JSON line at its end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, LABELS_MAX = 400, TRIES_MAX = 600 };

static unsigned long port, series, first, last, per_request, together, connections;
static long long begin_ms, step_ms;
static double    rate;
static _Atomic uint64_t sent, refused;
static double    started;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static double value(unsigned long n, unsigned long i)
{
    uint64_t noise = mix((uint64_t)n << 32 | i);
    double   d;

    switch (n / 7 % 20) {
    case 11: case 12: case 13: case 14: case 15:
        return (double)(i * 150 + noise % 150);
    case 16: case 17: case 18:
        return (double)(noise % 5000) / 100;
    case 19:
        noise = (noise >> 12) | UINT64_C(0x4080000000000000);
        memcpy(&d, &noise, sizeof d);
        return d;
    default:
        return (double)(n % 1000);
    }
}

static size_t varint(uint8_t *out, uint64_t v)
{
    size_t n = 0;

    for (; v > 0x7f; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static size_t label(uint8_t *out, const char *name, const char *text)
{
    size_t a = strlen(name), b = strlen(text), n = 0;

    out[n++] = 0x0a;
    n += varint(out + n, 4 + a + b);
    out[n++] = 0x0a;
    n += varint(out + n, a);
    memcpy(out + n, name, a);
    n += a;
    out[n++] = 0x12;
    n += varint(out + n, b);
    memcpy(out + n, text, b);
    return n + b;
}

static size_t labels(uint8_t *out, unsigned long n)
{
    static const char *const modes[] = { "user", "system", "idle", "iowait" };
    char   text[64];
    size_t at = 0;

#define LABEL(name, ...) (snprintf(text, sizeof text, __VA_ARGS__), at += label(out + at, name, text))
    LABEL("__name__", "bench_metric_%lu", n % 100);
    LABEL("cluster", "eu-west-1");
    LABEL("container", "main");
    LABEL("cpu", "%lu", n % 16);
    LABEL("instance", "10.0.%lu.%lu:9100", n / 1000 % 250, n / 250000 % 250);
    LABEL("job", "%s-%lu", n % 3 == 0 ? "api" : "node", n % 20);
    LABEL("mode", "%s", modes[n % 4]);
    LABEL("namespace", "team-%lu", n % 40);
    LABEL("pod", "service-%lu-%08lx", n % 50, n);
    LABEL("zone", "zone-%lu", n % 3);
#undef LABEL
    return at;
}

static size_t one(uint8_t *out, unsigned long n, unsigned long from, unsigned long to)
{
    uint8_t body[LABELS_MAX + 64 * 32];
    size_t  size = labels(body, n), at = 0;

    for (unsigned long i = from; i < to; i++) {
        uint8_t time[10];
        size_t  t = varint(time, (uint64_t)(begin_ms + (long long)i * step_ms));
        double  v = value(n, i);

        body[size++] = 0x12;
        body[size++] = (uint8_t)(9 + 1 + t);
        body[size++] = 0x09;
        memcpy(body + size, &v, 8);
        size += 8;
        body[size++] = 0x10;
        memcpy(body + size, time, t);
        size += t;
    }
    out[at++] = 0x0a;
    at += varint(out + at, size);
    memcpy(out + at, body, size);
    return at + size;
}

static int dial(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool put(int fd, const void *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes = (const char *)bytes + n;
        size -= (size_t)n;
    }
    return true;
}

/* The status of one answer; 0: the connection broke. */
static int answer(int fd)
{
    char   in[8192];
    size_t size = 0;

    for (;;) {
        ssize_t n = recv(fd, in + size, sizeof in - 1 - size, 0);
        char   *end, *length;

        if (n <= 0)
            return 0;
        size += (size_t)n;
        in[size] = '\0';
        end = strstr(in, "\r\n\r\n");
        if (end == NULL)
            continue;
        length = strcasestr(in, "content-length:");
        if (length != NULL && length < end &&
            size < (size_t)(end + 4 - in) + strtoul(length + 15, NULL, 10))
            continue;
        return atoi(in + 9);
    }
}

static void *run(void *arg)
{
    unsigned long mine = (unsigned long)(uintptr_t)arg, requests = (series + per_request - 1) / per_request;
    size_t   room = per_request * (LABELS_MAX + together * 24);
    uint8_t *plain = malloc(room);
    char    *packed = malloc(snappy_max_compressed_length(room)), head[512];
    int      fd = dial();

    for (unsigned long i = first; i < last; i += together)
        for (unsigned long r = mine; r < requests; r += connections) {
            unsigned long to = i + together < last ? i + together : last, n = r * per_request;
            unsigned long end = n + per_request < series ? n + per_request : series;
            size_t        size = 0, out = snappy_max_compressed_length(room);
            uint64_t      count = (end - n) * (to - i), so_far;
            int           status = 0, tries = 0, h;

            for (; n < end; n++)
                size += one(plain + size, n, i, to);
            snappy_compress((char *)plain, size, packed, &out);
            h = snprintf(head, sizeof head, "POST /api/v1/write HTTP/1.1\r\nHost: b\r\n"
                         "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n"
                         "X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: %zu\r\n\r\n", out);
            while (status != 204 && status != 200) {
                if (tries++ == TRIES_MAX) {
                    fprintf(stderr, "given up: status %d\n", status);
                    exit(1);
                }
                if (tries > 1) {
                    atomic_fetch_add(&refused, 1);
                    usleep(100000);
                }
                if (fd < 0)
                    fd = dial();
                if (fd < 0)
                    continue;
                status = put(fd, head, (size_t)h) && put(fd, packed, out) ? answer(fd) : 0;
                if (status == 0) {
                    close(fd);
                    fd = -1;
                }
            }
            so_far = atomic_fetch_add(&sent, count) + count;
            while (rate > 0 && (double)so_far / rate > now() - started)
                usleep(2000);
        }
    if (fd >= 0)
        close(fd);
    free(plain);
    free(packed);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];

    if (argc != 11)
        return 2;
    port = strtoul(argv[1], NULL, 10);
    series = strtoul(argv[2], NULL, 10);
    first = strtoul(argv[3], NULL, 10);
    last = strtoul(argv[4], NULL, 10);
    per_request = strtoul(argv[5], NULL, 10);
    together = strtoul(argv[6], NULL, 10);
    connections = strtoul(argv[7], NULL, 10);
    begin_ms = atoll(argv[8]);
    step_ms = atoll(argv[9]);
    rate = atof(argv[10]);
    if (connections == 0 || connections > THREADS_MAX || together == 0 || together > 64 || per_request == 0)
        return 2;
    started = now();
    for (unsigned long t = 0; t < connections; t++)
        pthread_create(&threads[t], NULL, run, (void *)(uintptr_t)t);
    for (unsigned long t = 0; t < connections; t++)
        pthread_join(threads[t], NULL);
    printf("{\"pushed_samples\": %" PRIu64 ", \"refused_requests\": %" PRIu64 ", \"seconds\": %.2f}\n",
           atomic_load(&sent), atomic_load(&refused), now() - started);
    return 0;
}
