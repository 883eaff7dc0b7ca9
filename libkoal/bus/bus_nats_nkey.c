#include "libkoal/bus/bus_nats_nkey.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* The first word from there on; of a line of dashes none. */
static struct kl_span word(const char *at, const char *end)
{
    const char *from;

    while (at < end && is_blank(*at))
        at++;
    for (from = at; at < end && !is_blank(*at); at++)
        ;
    return kl_span(from, from < end && *from == '-' ? 0 : (size_t)(at - from));
}

/* The first word behind the line that has BEGIN and `what`; size 0: none. */
static struct kl_span section(struct kl_span file, const char *what)
{
    const char *at = file.at, *end = at + file.size;

    while (at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        size_t      size = line != NULL ? (size_t)(line - at) : (size_t)(end - at);

        if (memmem(at, size, "BEGIN", 5) != NULL && memmem(at, size, what, strlen(what)) != NULL)
            return line != NULL ? word(line, end) : kl_span(NULL, 0);
        at += size + 1;
    }
    return kl_span(NULL, 0);
}

/* All of it, for let_go; size 0: it cannot be read, or is too large. */
static struct kl_span read_file(const char *path)
{
    char   *bytes = kl_resize(NULL, KL_NKEY_FILE_MAX);
    int     fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t  size = 0;
    ssize_t n = fd >= 0 ? 0 : -1;

    while (fd >= 0 && size < KL_NKEY_FILE_MAX && (n = read(fd, bytes + size, KL_NKEY_FILE_MAX - size)) > 0)
        size += (size_t)n;
    if (fd >= 0)
        close(fd);
    return kl_span(bytes, n == 0 ? size : 0);
}

static char *take(struct kl_span file, struct kl_span text)
{
    char *copy = text.size > 0 ? strndup(text.at, text.size) : NULL;

    explicit_bzero((void *)file.at, KL_NKEY_FILE_MAX);
    free((void *)file.at);
    return copy;
}

char *kl_nkey_seed(const char *path)
{
    struct kl_span file = read_file(path), text = section(file, "USER NKEY SEED");

    if (text.size == 0 && file.size > 0)
        text = word(file.at, (const char *)file.at + file.size);
    return take(file, text);
}

char *kl_nkey_jwt(const char *path)
{
    struct kl_span file = read_file(path);

    return take(file, section(file, "NATS USER JWT"));
}
