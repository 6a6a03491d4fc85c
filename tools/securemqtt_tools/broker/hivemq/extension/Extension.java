package securemqtt;

import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.client.parameter.ConnectionInformation;
import com.hivemq.extension.sdk.api.events.client.ClientLifecycleEventListener;
import com.hivemq.extension.sdk.api.events.client.parameters.*;
import com.hivemq.extension.sdk.api.interceptor.connect.ConnectInboundInterceptor;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.packets.publish.ModifiableConnectPacket;
import com.hivemq.extension.sdk.api.parameter.*;
import com.hivemq.extension.sdk.api.services.Services;
import java.io.IOException;
import java.nio.file.*;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.*;
import java.util.concurrent.*;
import org.slf4j.*;

/** Gives HiveMQ CE what it lacks: identity by certificate, rules, revocation, networks. */
public final class Extension implements ExtensionMain {
    private static final Logger LOG = LoggerFactory.getLogger("securemqtt");
    private static final long EVICTION_S = 10;

    private final Map<String, Session> sessions = new ConcurrentHashMap<>();
    private volatile Access access;
    private Path file;
    private String seen = "";

    @Override
    public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
        file = input.getExtensionInformation().getExtensionHomeFolder().toPath().resolve("access");
        try {
            seen = mark();
            access = Access.read(file);
        } catch (IOException error) { // nobody comes in without an extension
            output.preventExtensionStartup("cannot read " + file + ": " + error.getMessage());
            return;
        }
        ConnectInboundInterceptor connecting = (asked, answer) ->
                begin(session(asked.getConnectionInformation()), answer.getConnectPacket());
        Services.interceptorRegistry().setConnectInboundInterceptorProvider(ignored -> connecting);
        SimpleAuthenticator authenticator = (asked, answer) -> {
            Session session = session(asked.getConnectionInformation());
            String refusal = session.refusal();
            if (refusal != null) {
                LOG.info("securemqtt: refused {}: {}", session.who, refusal);
                answer.failAuthentication(ConnackReasonCode.NOT_AUTHORIZED);
            } else if (!session.identity.equals(asked.getClientInformation().getClientId())) {
                answer.failAuthentication(ConnackReasonCode.CLIENT_IDENTIFIER_NOT_VALID);
            } else {
                answer.authenticateSuccessfully();
            }
        };
        Services.securityRegistry().setAuthenticatorProvider(ignored -> authenticator);
        Services.securityRegistry()
                .setAuthorizerProvider(asked -> session(asked.getConnectionInformation()));
        Services.initializerRegistry().setClientInitializer((asked, client) -> {
            Session session = session(asked.getConnectionInformation());
            client.addPublishInboundInterceptor(session);
            client.addPublishOutboundInterceptor(session);
        });
        Services.eventRegistry().setClientLifecycleEventListener(ignored -> new Life());
        Services.extensionExecutorService()
                .scheduleWithFixedDelay(this::watch, 1, 1, TimeUnit.SECONDS);
        LOG.info("securemqtt: rules {} taken up", access.number);
    }

    @Override
    public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}

    private Session session(ConnectionInformation connection) {
        return new Session(connection, () -> access);
    }

    /** The CN is the client id and the user, whatever CONNECT says. */
    private void begin(Session session, ModifiableConnectPacket packet) {
        if (session.identity == null) {
            return; // and is refused
        }
        packet.setClientId(session.identity);
        packet.setUserName(session.identity);
        packet.getModifiableWillPublish().ifPresent(will -> {
            if (!session.may("write", will.getTopic())) {
                packet.setWillPublish(null);
                return;
            }
            will.getUserProperties().removeName(Session.WILL_OF);
            will.getUserProperties().addUserProperty(Session.WILL_OF, session.identity);
        });
    }

    /** One connection, from when it is let in: HiveMQ asks for a new one each time. */
    private final class Life implements ClientLifecycleEventListener {
        private Session session;

        @Override
        public void onMqttConnectionStart(ConnectionStartInput input) {}

        @Override
        public void onAuthenticationSuccessful(AuthenticationSuccessfulInput input) {
            session = session(input.getConnectionInformation());
            sessions.put(session.identity, session);
            LOG.info("securemqtt: let in {}", session.who);
        }

        @Override
        public void onDisconnect(DisconnectEventInput input) {
            if (session != null) {
                sessions.remove(session.identity, session); // unless there is a newer one
                LOG.info("securemqtt: left {}", session.who);
            }
        }
    }

    /** What tells a file from the one that was there before. */
    private String mark() throws IOException {
        BasicFileAttributes now = Files.readAttributes(file, BasicFileAttributes.class);
        return now.fileKey() + " " + now.lastModifiedTime() + " " + now.size();
    }

    /** Once a second: take up a new file, and put out who may not be here any more. */
    private void watch() {
        Access next = null;
        try {
            String now = mark();
            if (!now.equals(seen)) {
                seen = now;
                next = Access.read(file);
                access = next;
            }
        } catch (IOException | RuntimeException error) {
            LOG.warn("securemqtt: rules not taken up: {}", error.toString());
        }
        try {
            evict();
            if (next != null) {
                LOG.info("securemqtt: rules {} taken up", next.number);
            }
        } catch (Exception error) {
            LOG.warn("securemqtt: cannot look after the sessions: {}", error.toString());
        }
    }

    private void evict() throws Exception {
        List<CompletableFuture<Boolean>> going = new ArrayList<>();
        for (Session session : sessions.values()) {
            String refusal = session.refusal();
            if (refusal != null) {
                LOG.info("securemqtt: put out {}: {}", session.who, refusal);
                going.add(Services.clientService().disconnectClient(session.identity));
            }
        }
        CompletableFuture.allOf(going.toArray(new CompletableFuture<?>[0]))
                .get(EVICTION_S, TimeUnit.SECONDS);
    }
}
