package securemqtt;

import static java.util.concurrent.TimeUnit.SECONDS;

import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.events.client.ClientLifecycleEventListener;
import com.hivemq.extension.sdk.api.events.client.parameters.*;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.packets.publish.ModifiableConnectPacket;
import com.hivemq.extension.sdk.api.parameter.*;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.subscription.*;
import java.io.IOException;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import org.slf4j.*;

/** Gives HiveMQ CE what it lacks: identity by certificate, rules, revocation, networks. */
public final class Extension implements ExtensionMain {
    private static final Logger LOG = LoggerFactory.getLogger("securemqtt");
    private static final long ANSWER_S = 10;
    private final Map<String, Session> sessions = new ConcurrentHashMap<>();
    private volatile Access access;
    private Path file;
    private String seen = "", fault = "";
    private Access told; // that it is taken up
    private Access settled; // all shared subscriptions are as it has them

    @Override
    public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
        file = input.getExtensionInformation().getExtensionHomeFolder().toPath().resolve("access");
        try {
            seen = mark();
            told = access = Access.read(file);
        } catch (IOException | RuntimeException error) { // nobody comes in without an extension
            output.preventExtensionStartup("cannot read " + file + ": " + error);
            return;
        }
        Services.interceptorRegistry().setConnectInboundInterceptorProvider(ignored ->
                (asked, answer) -> begin(session(asked), answer.getConnectPacket()));
        SimpleAuthenticator authenticator = (asked, answer) -> {
            Session session = session(asked);
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
        Services.securityRegistry().setAuthorizerProvider(this::session);
        Services.initializerRegistry().setClientInitializer((asked, client) -> {
            Session session = session(asked);
            client.addPublishInboundInterceptor(session);
            client.addPublishOutboundInterceptor(session);
        });
        Services.eventRegistry().setClientLifecycleEventListener(ignored -> new Life());
        Services.extensionExecutorService().scheduleWithFixedDelay(this::watch, 0, 1, SECONDS);
        LOG.info("securemqtt: rules {} taken up", access.number);
    }

    @Override
    public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}

    private Session session(ClientBasedInput asked) {
        return new Session(asked.getConnectionInformation(), () -> access);
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
            session = session(input);
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
        return Files.readAttributes(file, "fileKey,lastModifiedTime,size").toString();
    }

    /** Once a second: take up a new file, and put out who may not be here any more. */
    private void watch() {
        String now = "";
        try {
            now = mark();
            if (!now.equals(seen)) {
                access = Access.read(file);
                seen = now; // and not before: what keeps it from being read may pass
            }
        } catch (IOException | RuntimeException error) {
            if (!fault.equals(now + error)) {
                LOG.warn("securemqtt: rules not taken up: {}", error.toString());
            }
            fault = now + error;
        }
        try {
            evict();
            if (access != settled) {
                leaveGroups();
            }
            settled = told; // if that is older: once more, for a SUBSCRIBE that was under way
            if (access != told) {
                LOG.info("securemqtt: rules {} taken up", access.number);
            }
            told = access;
        } catch (Exception error) {
            LOG.warn("securemqtt: not all is done, and tried again: {}", error.toString());
        }
    }

    private void evict() throws Exception {
        List<CompletableFuture<?>> going = new ArrayList<>();
        for (Session session : sessions.values()) {
            String refusal = session.refusal();
            if (refusal != null) {
                LOG.info("securemqtt: put out {}: {}", session.who, refusal);
                going.add(Services.clientService().disconnectClient(session.identity));
            }
        }
        await(going);
    }

    /** End shared subscriptions that may not be: what their group gives to them would be lost. */
    private void leaveGroups() throws Exception {
        List<CompletableFuture<?>> leaving = Collections.synchronizedList(new ArrayList<>());
        await(List.of(Services.subscriptionStore().iterateAllSubscriptions((ignored, client) -> {
            String identity = client.getClientId();
            for (TopicSubscription one : client.getSubscriptions()) {
                String filter = one.getTopicFilter();
                if (filter.startsWith("$share/") && !access.allows(identity, "read", filter)) {
                    LOG.info("securemqtt: put out of a shared subscription: {}", identity);
                    leaving.add(Services.subscriptionStore().removeSubscription(identity, filter));
                }
            }
        })));
        await(leaving);
    }

    /** Wait for all of them, and fail then if one has: none keeps another from being done. */
    private static void await(List<CompletableFuture<?>> all) throws Exception {
        CompletableFuture.allOf(all.toArray(new CompletableFuture<?>[0])).get(ANSWER_S, SECONDS);
    }
}
