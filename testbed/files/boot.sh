#!/bin/sh
# The first process of a server: undoes what makes a container differ from a
# machine, then becomes systemd.
set -eu

# Without --privileged the cgroup mounts arrive read-only; systemd and Docker write there.
mounts=$(cat /proc/self/mounts)
echo "$mounts" | while read -r _ target type _; do
  case $type in
    cgroup | cgroup2) mount -o remount,rw,bind "$target" ;;
  esac
done

# Of the kernel's values only those of the network are a server's own. systemd raises fs.nr_open and
# fs.file-max, systemd-sysctl sets kernel.core_pattern, dockerd the kernel's key limits: the machine's.
for values in /proc/sys/* /proc/sysrq-trigger; do
  if [ "$values" != /proc/sys/net ] && [ -e "$values" ]; then
    mount --bind "$values" "$values"
    mount -o remount,ro,bind "$values"
  fi
done

# The engine binds these over the file system's own, where no program could
# replace them as on a machine (rename is refused on a mount point).
for file in /etc/hosts /etc/hostname /etc/resolv.conf; do
  if echo "$mounts" | grep -q " $file "; then
    engines=$(cat "$file")
    umount "$file"
    # A later boot keeps what the server made of its names; resolvers may have moved.
    if [ "$file" = /etc/resolv.conf ] || [ ! -e /var/lib/testbed/booted ]; then
      case $file in
        # The engine adds the names of the machine it runs on; only the server's own line counts.
        /etc/hosts)
          printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$file"
          echo "$engines" | sed -n "s/^\([0-9.]*\)[[:space:]]\+$(hostname)[[:space:]].*/\1 $(hostname)/p" >>"$file"
          ;;
        *) printf '%s\n' "$engines" >"$file" ;;
      esac
    fi
  fi
done

if [ ! -e /var/lib/testbed/booted ]; then
  for home in /root /home/debian; do
    install -d -m 0700 "$home/.ssh"
    install -m 0600 /opt/testbed/authorized_keys "$home/.ssh/authorized_keys"
  done
  chown -R debian:debian /home/debian/.ssh
  # Keys and ids baked into an image would be shared by all that boot from it.
  ssh-keygen -A >/dev/null
  systemd-machine-id-setup >/dev/null 2>&1
  mkdir -p /var/lib/testbed
  : >/var/lib/testbed/booted
fi

exec /lib/systemd/systemd "$@"
