#ifndef CSHIM_RPCBIND_H
#define CSHIM_RPCBIND_H

#include <stdint.h>

/* Tells the host's rpcbind that `program` in `version` is served at a universal address (RFC 5665) of a transport
 * ("tcp", "udp", "tcp6", "udp6"). Blocks. 0, or -errno: ENXIO when there is no such transport on this host, ECONNREFUSED
 * when there is no rpcbind, EEXIST when another server has the program. */
int shim_rpcbind_set(uint32_t program, uint32_t version, const char *transport, const char *address);

/* Takes back what `set` has told, for one transport. */
int shim_rpcbind_unset(uint32_t program, uint32_t version, const char *transport);

#endif
