# What people make is for them and their group. root's files are read by services: its umask stays.
if [ "$(id -u)" -ne 0 ]; then
    umask 027
fi
