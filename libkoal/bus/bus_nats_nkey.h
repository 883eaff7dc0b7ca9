#ifndef KL_BUS_NATS_NKEY_H
#define KL_BUS_NATS_NKEY_H
/*
 * Files by which NATS knows us: a seed of an NKey alone, or credentials, which hold a JWT and a seed between
 * lines of dashes. Read anew for each connection. Plain functions, any thread.
 */
#include "libkoal/base/mem.h"

enum { KL_NKEY_FILE_MAX = 64 << 10 };                  /* larger ones are none */

/* For the caller to free, the seed after explicit_bzero; NULL: there is none, or no file. */
char *kl_nkey_seed(const char *path);
char *kl_nkey_jwt(const char *path);
#endif
