# Write nginx.conf with the port and start nginx: serve.sh FOLDER PORT
PATH=$PATH:/usr/sbin
mkdir -p "$1/$2"
sed "s/PORT/$2/" nginx.conf >"$1/$2/nginx.conf"
exec nginx -p "$1/$2" -c nginx.conf
