#ifndef KL_AUTH_ENDPOINTS_H
#define KL_AUTH_ENDPOINTS_H
/*
 * The one table of what each endpoint asks of a key. An endpoint that stands in no row is refused:
 * whoever adds a route adds a row. Routes below /prometheus/ are those without it.
 */
#include "libkoal/auth/keys.h"

struct kl_auth_endpoint {
    const char *methods;                               /* "GET"; NULL: every one */
    const char *route;                                 /* as it was registered */
    unsigned    role;                                  /* any of these; 0: anyone, without a key */
    bool        cell;                                  /* speaks of more than one tenant: a key of * */
};
/* NULL: there is no row. HEAD is GET. */
const struct kl_auth_endpoint *kl_auth_endpoint_of(const char *method, const char *route);
#endif
