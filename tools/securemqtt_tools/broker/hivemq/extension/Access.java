package securemqtt;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.file.*;
import java.security.cert.X509Certificate;
import java.util.*;

/** Who may do what and come from where: the access file, which access.py writes. */
final class Access {
    private static final String HEAD = "securemqtt-access 1";
    private static final Set<String> KEYS = Set.of("read", "write", "deny", "network");

    /** Counts the changes. */
    final long number;
    private final String prefix;
    private final BigInteger issuer;
    private final Set<BigInteger> revoked = new HashSet<>();
    private final Map<String, Map<String, List<String>>> identities = new HashMap<>();

    private Access(List<String> lines) throws IOException {
        number = Long.parseLong(value(lines, 1, "number"));
        prefix = value(lines, 2, "prefix");
        issuer = new BigInteger(value(lines, 3, "issuer"), 16);
    }

    /** Read a file; IOException, or NumberFormatException, where it is not what is meant. */
    static Access read(Path path) throws IOException {
        List<String> lines = Files.readAllLines(path);
        int last = lines.size() - 1;
        if (last < 4 || !lines.get(0).equals(HEAD) || !lines.get(last).equals("end")) {
            throw new IOException("it is not whole, or of another version");
        }
        Access access = new Access(lines);
        Map<String, List<String>> current = null;
        for (int index = 4; index < last; index++) {
            String key = lines.get(index).split(" ", 2)[0];
            String value = value(lines, index, key);
            if (key.equals("revoked")) {
                access.revoked.add(new BigInteger(value, 16));
            } else if (key.equals("identity")) {
                current = access.identities.computeIfAbsent(value, ignored -> new HashMap<>());
            } else if (KEYS.contains(key) && current != null) {
                current.computeIfAbsent(key, ignored -> new ArrayList<>()).add(value);
            } else {
                throw new IOException("line " + (index + 1) + " is not understood");
            }
        }
        return access;
    }

    private static String value(List<String> lines, int index, String key) throws IOException {
        if (!lines.get(index).startsWith(key + " ")) {
            throw new IOException("line " + (index + 1) + " is not understood");
        }
        return lines.get(index).substring(key.length() + 1);
    }

    private List<String> said(String identity, String key) {
        return identities.getOrDefault(identity, Map.of()).getOrDefault(key, List.of());
    }

    /** Return whether a certificate is revoked, or by another key than the list of the revoked. */
    boolean isRevoked(X509Certificate certificate) {
        byte[] from = certificate.getExtensionValue("2.5.29.35"); // two bytes, and then it
        return from == null
                || !issuer.equals(new BigInteger(1, Arrays.copyOfRange(from, 2, from.length)))
                || revoked.contains(certificate.getSerialNumber());
    }

    /** Return whether an identity may come from an address, which is written as its bits are. */
    boolean mayComeFrom(String identity, String bits) {
        List<String> networks = said(identity, "network");
        return networks.isEmpty() || networks.stream().anyMatch(bits::startsWith);
    }

    /** Return whether an identity may "read" or "write" all that a topic or filter stands for. */
    boolean allows(String identity, String action, String asked) {
        String[] levels = asked.replaceFirst("^[$]share/[^/]*/", "").split("/", -1);
        return said(identity, "deny").stream().noneMatch(rule -> covers(rule, levels))
                && (covers(prefix + identity + "/#", levels)
                || said(identity, action).stream().anyMatch(rule -> covers(rule, levels)));
    }

    /** As covers() of securemqtt/protocol/topics.py. */
    private static boolean covers(String rule, String[] levels) {
        String[] allowed = rule.split("/", -1);
        if (!allowed[0].equals(levels[0]) && levels[0].startsWith("$")) { // [MQTT-4.7.2-1]
            return false;
        }
        for (int index = 0; index < allowed.length; index++) {
            if (allowed[index].equals("#")) {
                return true;
            }
            if (index >= levels.length || levels[index].equals("#")
                    || !allowed[index].equals("+") && !allowed[index].equals(levels[index])) {
                return false;
            }
        }
        return allowed.length == levels.length;
    }
}
