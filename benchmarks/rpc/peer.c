/* The same server over libtirpc's own loop. */
#include <rpc/rpc.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void dispatch(struct svc_req *request, SVCXPRT *transport) {
    if (request->rq_proc == 0) svc_sendreply(transport, (xdrproc_t)xdr_void, NULL);
    else svcerr_noproc(transport);
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 64)) return 1;
    getsockname(fd, (struct sockaddr *)&address, &length);
    SVCXPRT *transport = svc_vc_create(fd, 0, 0);
    if (!transport || !svc_reg(transport, 0x20000001, 1, dispatch, NULL)) return 1;
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    svc_run();
    return 0;
}
