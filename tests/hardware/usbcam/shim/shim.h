/* usbfs_shim.so: makes a process (any libusb in it, also one bundled in a wheel) see the USB devices that
 * usbcam.server exports, and no others, without a kernel USB stack or root.
 *
 *   cc -O2 -Wall -shared -fPIC -pthread -o usbfs_shim.so usbfs.c paths.c
 *   USBSHIM=ROOT LD_PRELOAD=$PWD/usbfs_shim.so python -c 'import uvc; print(uvc.device_list())'
 *
 * ROOT is the server's folder.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODES "/dev/bus/usb/"
#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

int open_node(const char *path);                 /* a file descriptor that takes usbfs ioctls */
int try_node(const char *path);                  /* 0 if opening it would succeed */
