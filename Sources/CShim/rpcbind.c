#include "CShimRpcbind.h"

#include <errno.h>
#include <netconfig.h>
#include <rpc/nettype.h>
#include <rpc/rpc.h>
#include <rpc/rpcb_clnt.h>
#include <rpc/rpcb_prot.h>
#include <rpc/rpc_com.h>
#include <stdlib.h>

/* Why the last call of this thread had no answer; a call that was answered with no leaves it clear. */
static int refusal(void) {
    return rpc_createerr.cf_stat == RPC_SUCCESS ? -EEXIST : -ECONNREFUSED;
}

int shim_rpcbind_set(uint32_t program, uint32_t version, const char *transport, const char *address) {
    struct netconfig *config = getnetconfigent(transport);
    if (!config) return -ENXIO;
    int result = -EINVAL;
    struct netbuf *bound = uaddr2taddr(config, address);
    if (bound) {
        rpc_createerr.cf_stat = RPC_SUCCESS;
        result = rpcb_set(program, version, config, bound) ? 0 : refusal();
        free(bound->buf);
        free(bound);
    }
    freenetconfigent(config);
    return result;
}

int shim_rpcbind_unset(uint32_t program, uint32_t version, const char *transport) {
    struct netconfig *config = getnetconfigent(transport);
    if (!config) return -ENXIO;
    rpc_createerr.cf_stat = RPC_SUCCESS;
    int result = rpcb_unset(program, version, config) ? 0 : refusal();
    freenetconfigent(config);
    return result;
}
