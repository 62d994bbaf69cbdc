/* Paths and libudev: what lies below /sys/bus/usb, /dev/bus/usb and (where ROOT has it) /sys/devices leads into ROOT,
 * for the calls of libc that libusb and Python make; and the few calls of libudev that libusb enumerates with.
 */
#include "shim.h"

#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#define DEVICES "/sys/bus/usb/devices"
#define MAX_DEVICES 64

static int starts(const char *path, const char *with) { return !strncmp(path, with, strlen(with)); }

static const char *redirect(const char *path, char out[4096])
{
	const char *root = getenv("USBSHIM");
	if (!path || !root)
		return path;
	int always = starts(path, "/sys/bus/usb") || starts(path, "/dev/bus/usb");
	if (!always && !starts(path, "/sys/devices/"))
		return path;
	snprintf(out, 4096, "%s%s", root, path);
	return always || !syscall(SYS_faccessat, AT_FDCWD, out, F_OK) ? out : path;
}

/* ---- libc ---------------------------------------------------------------------- */
static int is_node(const char *path)
{
	unsigned bus, device;
	return path && getenv("USBSHIM") && sscanf(path, NODES "%u/%u", &bus, &device) == 2;
}

#define OPEN(name) int name(const char *path, int flags, ...) { \
	char other[4096]; \
	va_list v; va_start(v, flags); mode_t mode = va_arg(v, int); va_end(v); \
	if (is_node(path)) \
		return open_node(path); \
	return REAL(int, name, const char *, int, ...)(redirect(path, other), flags, mode); }
#define OPENAT(name) int name(int at, const char *path, int flags, ...) { \
	char other[4096]; \
	va_list v; va_start(v, flags); mode_t mode = va_arg(v, int); va_end(v); \
	if (is_node(path)) \
		return open_node(path); \
	return REAL(int, name, int, const char *, int, ...)(at, redirect(path, other), flags, mode); }
#define STAT(name, kind) int name(const char *path, struct kind *out) { \
	char other[4096]; \
	return REAL(int, name, const char *, struct kind *)(redirect(path, other), out); }
#define STATAT(name, kind) int name(int at, const char *path, struct kind *out, int flags) { \
	char other[4096]; \
	return REAL(int, name, int, const char *, struct kind *, int)(at, redirect(path, other), out, flags); }
#define XSTAT(name, kind) int name(int version, const char *path, struct kind *out) { \
	char other[4096]; \
	return REAL(int, name, int, const char *, struct kind *)(version, redirect(path, other), out); }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)
XSTAT(__xstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat, stat)
XSTAT(__lxstat64, stat64)

DIR *opendir(const char *path)
{
	char other[4096];
	return REAL(DIR *, opendir, const char *)(redirect(path, other));
}

ssize_t readlink(const char *path, char *out, size_t size)
{
	char other[4096];
	return REAL(ssize_t, readlink, const char *, char *, size_t)(redirect(path, other), out, size);
}

int access(const char *path, int mode)
{
	char other[4096];
	if (mode == F_OK || !is_node(path))
		return REAL(int, access, const char *, int)(redirect(path, other), mode);
	return try_node(path);
}

/* ---- libudev, as far as libusb uses it ---------------------------------------------------------------- */
struct udev_list_entry { struct udev_list_entry *next; char path[320]; };
struct scan { struct udev_list_entry entry[MAX_DEVICES]; int count; };
struct found { char name[64], node[64]; };
static int anything;

static int number_in(const char *device, const char *attribute)
{
	char path[512], text[16] = "";
	snprintf(path, sizeof path, "%s/%s", device, attribute);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	return n > 0 ? atoi(text) : -1;
}

void *udev_new(void) { return &anything; }
void *udev_unref(void *u) { return NULL; }
void *udev_enumerate_new(void *u) { return calloc(1, sizeof(struct scan)); }
void *udev_enumerate_unref(void *s) { free(s); return NULL; }
int udev_enumerate_add_match_subsystem(void *s, const char *n) { return 0; }
int udev_enumerate_add_match_property(void *s, const char *n, const char *v) { return 0; }
int udev_enumerate_scan_devices(struct scan *s)
{
	DIR *folder = opendir(DEVICES);
	struct dirent *e;
	while (folder && (e = readdir(folder)) && s->count < MAX_DEVICES)
		if (e->d_name[0] != '.' && !strchr(e->d_name, ':')) {
			snprintf(s->entry[s->count].path, sizeof s->entry->path, DEVICES "/%s", e->d_name);
			if (s->count)
				s->entry[s->count - 1].next = &s->entry[s->count];
			s->count++;
		}
	if (folder)
		closedir(folder);
	return 0;
}
void *udev_enumerate_get_list_entry(struct scan *s) { return s->count ? s->entry : NULL; }
void *udev_list_entry_get_next(struct udev_list_entry *e) { return e->next; }
const char *udev_list_entry_get_name(struct udev_list_entry *e) { return e->path; }
void *udev_device_new_from_syspath(void *u, const char *path)
{
	int bus = number_in(path, "busnum"), device = number_in(path, "devnum");
	if (bus < 0 || device < 0)
		return NULL;
	struct found *f = calloc(1, sizeof *f);
	snprintf(f->name, sizeof f->name, "%s", strrchr(path, '/') + 1);
	snprintf(f->node, sizeof f->node, NODES "%03d/%03d", bus, device);
	return f;
}
const char *udev_device_get_sysname(struct found *f) { return f->name; }
const char *udev_device_get_devnode(struct found *f) { return f->node; }
const char *udev_device_get_action(void *f) { return "none"; }
void *udev_device_unref(void *f) { free(f); return NULL; }
void *udev_monitor_new_from_netlink(void *u, const char *n)
{
	int *fd = malloc(sizeof *fd);
	*fd = eventfd(0, EFD_CLOEXEC);
	return fd;
}
int udev_monitor_filter_add_match_subsystem_devtype(void *m, const char *s, const char *t) { return 0; }
int udev_monitor_enable_receiving(void *m) { return 0; }
int udev_monitor_get_fd(int *m) { return *m; }
void *udev_monitor_receive_device(void *m) { errno = EAGAIN; return NULL; }
void *udev_monitor_unref(int *m) { close(*m); free(m); return NULL; }
