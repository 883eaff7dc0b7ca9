/* Which option may have been meant: the one fewest slips away, or the only one that ends alike. */
#include "libkoal/base/config_priv.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64 };

static int fold(char c) { return c == '-' ? '_' : tolower((unsigned char)c); }

/* Slips between two names: a letter more, less, another, or two that changed places. */
static unsigned slips(const char *a, const char *b)
{
    size_t   n = strlen(a), m = strlen(b);
    unsigned row[3][NAME_MAX_BYTES + 1];

    if (n > NAME_MAX_BYTES || m > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (unsigned k = 0; k <= m; k++)
        row[0][k] = k;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *last = row[(i - 1) % 3], *before = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t k = 1; k <= m; k++) {
            unsigned least = last[k - 1] + (fold(a[i - 1]) != fold(b[k - 1]));
            if (last[k] + 1 < least)
                least = last[k] + 1;
            if (now[k - 1] + 1 < least)
                least = now[k - 1] + 1;
            if (i > 1 && k > 1 && fold(a[i - 1]) == fold(b[k - 2]) && fold(a[i - 2]) == fold(b[k - 1]) &&
                before[k - 2] + 1 < least)
                least = before[k - 2] + 1;
            now[k] = least;
        }
    }
    return row[n % 3][m];
}

static const char *last_word(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot != NULL ? dot + 1 : path;
}

/* NULL also where several do: of them none is likelier. */
static const char *ends_alike(const struct kl_option *table, const char *word)
{
    const char *found = NULL;

    for (const struct kl_option *o = table; o->path != NULL; o++) {
        if (slips(word, last_word(o->path)) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = o->path;
    }
    return found;
}

void kl_config_near(const struct kl_option *table, const char *path, char *out, size_t size)
{
    const char *best = NULL;
    size_t      n = strlen(path);
    unsigned    least = n < 5 ? 2 : n < 15 ? 3 : (unsigned)(n / 4) + 1;     /* so many are too many */

    for (const struct kl_option *o = table; o->path != NULL; o++) {
        unsigned d = slips(path, o->path);
        if (d < least) {
            least = d;
            best = o->path;
        }
    }
    if (best == NULL)
        best = ends_alike(table, last_word(path));
    if (best != NULL)
        snprintf(out, size, "; did you mean \"%s\"?", best);
    else
        snprintf(out, size, "; --help lists them");
}
