// The one C shim: what Swift can not import (macros, variadic functions, GNU-only calls), out of line.
// _GNU_SOURCE is defined for the .c files only, so this header names nothing that needs it.
#ifndef PROXYFS_CSHIM_H
#define PROXYFS_CSHIM_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CShimCRC.h"
#include "CShimCurl.h"
#include "CShimDisk.h"
#include "CShimGSS.h"
#include "CShimHost.h"
#include "CShimMemory.h"
#include "CShimThread.h"
#include "CShimNet.h"
#include "CShimRpcbind.h"
#include "CShimSeal.h"
#include "CShimSystem.h"
#include "CShimTLS.h"

#endif
