# shellcheck shell=bash
# Sourced after lib.sh: starts a Cassandra, of the version that is on the class path.

# write_cassandra_settings CLUSTER SEGMENT_SIZE: writes DIR/cassandra.yaml, with change data capture on.
# AUTH=1: a login is needed; cassandra with the password cassandra.
write_cassandra_settings() {
    local authenticator=AllowAllAuthenticator authorizer=AllowAllAuthorizer storage
    storage=$(port storage)
    [ "${AUTH:-0}" != 1 ] || authenticator=PasswordAuthenticator authorizer=CassandraAuthorizer
    mkdir -p "$DIR"/{data,commitlog,cdc_raw,hints,saved_caches}
    cat >"$DIR/cassandra.yaml" <<SETTINGS
cluster_name: $1
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [ $DIR/data ]
commitlog_directory: $DIR/commitlog
saved_caches_directory: $DIR/saved_caches
hints_directory: $DIR/hints
cdc_enabled: true
cdc_raw_directory: $DIR/cdc_raw
commitlog_sync: periodic
commitlog_sync_period: 1000ms
commitlog_segment_size: $2
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [ { seeds: "127.0.0.1:$storage" } ]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: $storage
native_transport_port: $(port cql)
start_native_transport: true
endpoint_snitch: SimpleSnitch
authenticator: $authenticator
authorizer: $authorizer
SETTINGS
}

# write_java_options DIR: writes what Cassandra's code needs of Java, in the file java.options.
# The rules for modules are those of the connector in deploy/.
write_java_options() {
    cat >"$1/logback.xml" <<'SETTINGS'
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{20} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
SETTINGS
    {
        grep '^--add-' "$PROJECT/deploy/compose/debezium/jvm.options"
        echo '-Djdk.attach.allowAttachSelf=true'
        echo '-Djava.security.manager=allow'
        echo '-Djava.awt.headless=true'
        echo "\"-Dlogback.configurationFile=$1/logback.xml\""
        echo "\"-Dcassandra.storagedir=$1\""
    } >"$1/java.options"
}

# start_cassandra CLASS_PATH HEAP: starts it with DIR/cassandra.yaml, and waits until it takes requests.
start_cassandra() {
    write_java_options "$DIR"
    start cassandra java "@$DIR/java.options" "-Xms$2" "-Xmx$2" -cp "$1" \
        "-Dcassandra.config=file://$DIR/cassandra.yaml" -Dcassandra-foreground=yes \
        -Dcassandra.ring_delay_ms=500 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        org.apache.cassandra.service.CassandraDaemon
    wait_until cassandra 120 logged cassandra 'Startup complete'
    [ "${AUTH:-0}" != 1 ] || [ -e "$DIR/has_login" ] || wait_until cassandra 60 logged cassandra 'Created default superuser'
    [ "${AUTH:-0}" != 1 ] || touch "$DIR/has_login"
}
